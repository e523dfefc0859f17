"""Spans of time become spans of rows, whatever order the rows came in."""

import sqlite3

from hypothesis import given
from hypothesis import strategies as st

from relay.store.rows import time_index
from relay.store.rows.time_index import HOUR, TimeIndex

times = st.lists(st.lists(st.integers(0, 6 * HOUR), max_size=6), max_size=6)


@given(times, st.integers(0, 6 * HOUR), st.integers(0, 6 * HOUR))
def test_no_event_of_the_span_is_outside(groups, since, until):
    """Rows in any order of time, in groups: every event since a time, and every one before another, is in the span."""
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE hours (hour INTEGER PRIMARY KEY, first INTEGER NOT NULL, late INTEGER NOT NULL)")
    seq, rows = 0, []
    for number, group in enumerate(groups):
        span = TimeIndex(time_index.newest(database))
        for time in group:
            seq += 1
            rows.append((seq, time))
            span.add(seq, time)
        span.store(database)
        assert number > 0 or span.newest == max((time // HOUR for time in group), default=span.newest)
    (least,), (most,) = (
        database.execute(f"SELECT {sql}", given).fetchone()
        for sql, given in (time_index.since(since), time_index.until(until))
    )
    database.close()
    assert all(seq >= least for seq, time in rows if time >= since)
    assert all(seq <= most for seq, time in rows if time < until)


def test_rows_in_order_make_a_narrow_span():
    """A row every ten minutes for a day: one hour of it is six rows and no more."""
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE hours (hour INTEGER PRIMARY KEY, first INTEGER NOT NULL, late INTEGER NOT NULL)")
    span = TimeIndex()
    for seq in range(1, 145):
        span.add(seq, (seq - 1) * HOUR // 6)
    span.store(database)
    since, given = time_index.since(5 * HOUR)
    until, more = time_index.until(6 * HOUR)
    assert database.execute(f"SELECT {since}, {until}", [*given, *more]).fetchone() == (31, 36)
    database.close()

"""The fast texts of rows are the texts that were hashed, and what is damaged says so."""

import sqlite3
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.audit.event import FIELDS, NAMES, Event
from relay.core.audit.hash_chain import GENESIS, canonical, digest
from relay.errors import StoreUnavailable
from relay.store.reader import AuditReader
from relay.store.writer import FILE, AuditWriter
from tests.audit_rows import Relay

hostile = st.sampled_from(
    ["%", "%(seq)d", "\0forward\0", "\0id\0", '"', "\\", ',"schema":1,"seq":0,"time":0}', "é\u2028", "0k3v9x2m4qz"]
)
values = st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), hostile)
events = st.builds(
    Event,
    st.one_of(st.from_regex("[0-9a-hjkmnp-tv-z]{11}", fullmatch=True), hostile, st.text(min_size=1, max_size=12)),
    st.integers(0, 2**62),
    st.one_of(st.sampled_from(sorted(NAMES)), hostile),
    st.dictionaries(st.one_of(st.sampled_from(sorted(FIELDS)), hostile), values, max_size=14),
)


def follow(path):
    """The lines of a database, each checked against its hash and the row's value."""
    prev, found = GENESIS, []
    with AuditReader(path) as reader:
        for line, row in zip(reader.lines(), reader.walk(), strict=True):
            assert line.text == canonical(row.node, row.seq, row.event, row.schema)
            assert line.hash == digest(prev, line.text) == row.hash
            forward = row.event.fields.get("forward")
            assert line[:5] == (
                row.seq,
                row.event.time,
                row.event.name,
                row.event.id,
                forward if isinstance(forward, str) else None,
            )
            prev = line.hash
            found.append(line)
    return found


@given(st.lists(events, max_size=6, unique_by=lambda event: event.id))
def test_lines_are_what_was_hashed(tmp_path_factory, given_events):
    """Whatever stands in the fields, words of the templates too: the text of each line has the row's hash."""
    path = tmp_path_factory.mktemp("db") / FILE
    writer = AuditWriter(path, "relay %(id)s")
    writer.append(given_events)
    writer.append([replace(event, id=event.id + "x") for event in given_events])  # by the template of the first ones
    writer.close()
    follow(path)


def test_a_day_reads_the_same_both_ways(writer, path):
    """Ordinary rows, the second time by a template."""
    relay = Relay()
    writer.append([*relay.day(), *relay.day()])
    assert len(follow(path)) == 22


def test_what_is_missing_is_named(writer, path):
    """A row whose dictionary entry is gone is damaged, for both ways of reading."""
    writer.append(Relay().day())
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("DELETE FROM rests")
    database.close()
    with AuditReader(path) as reader:
        for read in (reader.lines, reader.walk):
            with pytest.raises(StoreUnavailable, match="row 4 of the audit database is damaged"):
                list(read())


@pytest.mark.parametrize("column", ["time", "sent", "received", "duration", "client_port"])
def test_a_number_that_is_none_is_damage(path, writer, column):
    """SQLite keeps a text or a fraction where a number belongs: it is not read as the number that it nearly is."""
    relay = Relay()
    opened = relay.opened(relay.connect())
    writer.append([opened, relay.closed(opened)])
    writer.close()
    for value in ("7.5", "'seven'", "x'07'"):
        with sqlite3.connect(path) as database:
            database.execute(f"UPDATE events SET {column} = {value} WHERE seq = 2")
        database.close()
        with AuditReader(path) as reader, pytest.raises(StoreUnavailable, match=r"row 2 .* damaged"):
            list(reader.lines())

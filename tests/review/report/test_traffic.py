"""The sections about traffic."""

from relay.review.report import traffic
from relay.review.report.blocks import Grid, Table
from tests.audit_rows import Relay
from tests.review.report.test_page import report_data


def day():
    """An ordinary day: alice's forward has ended, bob's is open."""
    return report_data(Relay().day())


def test_totals_count_forwards_bytes_and_people():
    """Bytes count when a forward has ended."""
    totals = dict(traffic.news(day())[0].pairs)
    assert totals["forwards"] == "2"
    assert totals["denied"] == "1"
    assert totals["bytes"] == "2.5 MB"
    assert totals["people"] == "2"
    assert totals["still open"] == "1"


def test_the_matrix_has_a_row_for_each_person_and_a_column_for_each_host():
    """With the forwards that were opened."""
    grid = next(block for block in traffic.matrix(day()) if isinstance(block, Grid))
    counts = {person: dict(zip(grid.heads, row, strict=True)) for person, row in grid.rows}
    assert counts == {"alice": {"remote": 1, "192.168.1.50": 0}, "bob": {"remote": 0, "192.168.1.50": 1}}


def test_the_hours_are_local():
    """12:00 UTC on Thursday 2026-10-01 is 20 o'clock in Shanghai."""
    (grid,) = traffic.hours(day())
    thursday = grid.rows[3][1]
    assert {hour: count for hour, count in enumerate(thursday) if count} == {20: 2}


def test_an_open_forward_is_among_the_longest_and_not_among_the_largest():
    """Its bytes are not known yet."""
    longest, largest = (block for block in traffic.longest_and_largest(day()) if isinstance(block, Table))
    assert {row[0].text for row in longest.rows} == {"alice", "bob"}
    assert [row[0].text for row in largest.rows] == ["alice"]

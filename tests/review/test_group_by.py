"""Totals by person and by day."""

import pytest

from relay.core.audit.audit_query import AuditQuery
from relay.core.audit.row_json import clock
from relay.review.group_by import group_rows
from tests.audit_rows import NOON

DAY = 86_400_000_000


def date(us: int) -> str:
    """The UTC date."""
    from datetime import UTC

    return clock(us, UTC)[:10]


@pytest.fixture
def days(writer, reader, relay):
    """Alice opens three forwards on the first day, bob one on the third."""
    alice = relay.connect()
    writer.append([relay.opened(alice) for _ in range(3)])
    relay.now = NOON + 2 * DAY
    writer.append([relay.opened(relay.connect("bob"))])
    return reader


def test_the_person_with_most_forwards_is_first(days):
    """The total covers all groups, also those cut by `top`."""
    groups = group_rows(days, AuditQuery(), "person", day=date, top=1)
    assert [(group.names, group.total.forwards) for group in groups.shown] == [(("alice",), 3)]
    assert (groups.count, groups.total.forwards) == (2, 4)


def test_days_are_in_the_order_of_the_calendar_and_top_keeps_the_last(days):
    """With an order of their own they are sorted like every other group."""
    assert [group.names for group in group_rows(days, AuditQuery(), "day", day=date).shown] == [
        ("2026-10-01",),
        ("2026-10-03",),
    ]
    (last,) = group_rows(days, AuditQuery(), "day", day=date, top=1).shown
    assert last.names == ("2026-10-03",)
    most = group_rows(days, AuditQuery(), "day", day=date, order="forwards", top=1).shown[0]
    assert most.names == ("2026-10-01",)


def test_only_matching_rows_are_added(days):
    """The query decides, as in a search."""
    groups = group_rows(days, AuditQuery(person="bob"), "person", day=date)
    assert [(group.names, group.total.forwards) for group in groups.shown] == [(("bob",), 1)]
    assert groups.shown[0].as_json("person")["first"].startswith("2026-10-03T12:00")

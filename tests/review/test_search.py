"""Entries: a forward told once, from opening to end, in the order things began."""

import pytest

from relay.core.audit.audit_query import AuditQuery
from relay.review.search import search_log


def test_a_forward_is_one_entry(writer, reader, relay):
    """Opening and closing rows are one entry with the facts of both; one that is open says so."""
    day = relay.day()
    writer.append(day)
    found = search_log(reader, AuditQuery(verdict="allowed"), 100)
    assert [(len(entry.rows), entry.outcome, entry.id) for entry in found] == [
        (2, "client-closed", day[4].id),
        (1, "open", day[6].id),
    ]
    assert found[0].fields["asked"] == "remote:22"
    assert found[0].fields["received"] == 2_500_000
    assert found[0].time == day[4].time


def test_everything_in_the_order_it_began(writer, reader, relay):
    """An ordinary day: ten entries of eleven rows, newest last, each with the id that `audit show` takes."""
    day = relay.day()
    writer.append(day)
    found = search_log(reader, AuditQuery(), 100)
    assert [entry.first.event for entry in found] == [*day[:9], day[10]]
    assert [entry.outcome for entry in found] == [
        "server.started",
        "site.applied",
        "key.added",
        "login.succeeded",
        "client-closed",
        "login.succeeded",
        "open",
        "denied: deny-rule",
        "refused",
        "connection.closed",
    ]
    assert found[3].id == day[3].fields["connection"]
    assert found[7].id == day[7].id


def test_a_forward_is_found_by_either_row(writer, reader, relay):
    """One that was opened before the time asked for and ended within it is told whole."""
    opened = relay.opened(relay.connect())
    closed = relay.closed(opened, "target-closed")
    writer.append([opened, closed])
    for question in (AuditQuery(since=closed.time), AuditQuery(until=closed.time), AuditQuery(text="target-closed")):
        (entry,) = search_log(reader, question, 10)
        assert [row.event for row in entry.rows] == [opened, closed]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 49, 50, 51, 1000])
def test_a_limit_counts_entries(writer, reader, relay, limit):
    """Asked for so many, the newest so many come, though each forward is two rows."""
    connection = relay.connect()
    forwards = [relay.opened(connection) for _ in range(60)]
    writer.append([*forwards, *(relay.closed(forward) for forward in forwards)])
    found = search_log(reader, AuditQuery(person="alice"), limit)
    assert [entry.first.event for entry in found] == forwards[-limit:]
    assert all(len(entry.rows) == 2 for entry in found)


def test_nothing_is_an_empty_list(writer, reader):
    """No answer is no entry."""
    assert search_log(reader, AuditQuery(), 10) == []


def test_a_line_of_json_is_flat(writer, reader, relay):
    """What programs get: facts of both rows, times, the rows' numbers and hashes."""
    writer.append(relay.day())
    shown = search_log(reader, AuditQuery(verdict="allowed"), 100)[0].as_json()
    assert shown["event"] == "forward.closed"
    assert (shown["rows"], len(shown["hashes"])) == ([5, 10], 2)
    assert shown["ended"] > shown["time"]
    assert not any(isinstance(value, dict) for value in shown.values())

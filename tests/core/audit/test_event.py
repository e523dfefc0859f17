"""The table of events: every name and field documented, every event checked against it."""

import re

import pytest

from relay.core.audit.event import FIELDS, LONGEST_TEXT, NAMES, Event, bounded, check, event_from_json
from tests.audit_rows import NOON, Relay

FULL = Relay().day()


@pytest.mark.parametrize("event", FULL, ids=lambda event: event.name)
def test_what_a_relay_writes_is_in_the_table(event):
    """The events of an ordinary day have the fields that the table says."""
    assert check(event) == ()


def test_names_are_noun_and_verb_and_every_field_is_documented():
    """Names are `noun.verb` and stay; a field that an event lists has a kind and a meaning, and none is left over."""
    listed = set()
    for name, entry in NAMES.items():
        assert re.fullmatch(r"[a-z_]+\.[a-z_]+", name)
        assert entry.meaning
        assert not set(entry.always) & set(entry.maybe), name
        assert len(set(entry.always + entry.maybe)) == len(entry.always + entry.maybe), name
        listed |= {*entry.always, *entry.maybe}
    assert listed == set(FIELDS)
    assert {field.kind for field in FIELDS.values()} <= {"text", "number", "truth"}
    assert all(field.meaning for field in FIELDS.values())


@pytest.mark.parametrize(
    ("event", "wrong"),
    [
        (Event("x", NOON, "forward.happened", {}), "no event is named"),
        (Event("", NOON, "server.stopped", {}), "no id"),
        (Event("x", 0, "server.stopped", {}), "not UTC microseconds"),
        (Event("x", True, "server.stopped", {}), "not UTC microseconds"),
        (Event("x", NOON, "server.started", {}), "lacks version"),
        (Event("x", NOON, "server.started", {"version": None}), "lacks version"),
        (Event("x", NOON, "server.stopped", {"colour": "red"}), "no field 'colour'"),
        (Event("x", NOON, "server.stopped", {"pid": "7"}), "not a number"),
        (Event("x", NOON, "server.stopped", {"pid": True}), "not a number"),
        (Event("x", NOON, "server.stopped", {"detail": ["nested"]}), "not a text"),
        (Event("x", NOON, "server.stopped", {"detail": "x" * (LONGEST_TEXT + 1)}), "longer than"),
    ],
)
def test_what_is_not_in_the_table_is_said(event, wrong):
    """An unknown name or field, a wrong type, a missing or overlong one: each is named."""
    (said,) = check(event)
    assert wrong in said


def test_everything_wrong_is_said_at_once():
    """Two faults are two sentences."""
    assert len(check(Event("", 0, "server.started", {"version": "1"}))) == 2


def test_texts_are_cut_and_surrogates_written_out():
    """What no database could take is changed visibly, all else stays the very same event."""
    event = Event("x", NOON, "server.stopped", {"detail": "a" * 5000, "version": "\udcff", "pid": 7, "\ud800": None})
    fixed = bounded(event)
    assert fixed.fields == {"detail": "a" * 1021 + "...", "version": "\\udcff", "pid": 7, "\\ud800": None}
    assert bounded(fixed) is fixed


@pytest.mark.parametrize("raw", [[], ["id", "noon", "name", {}], ["id", 1, "name"], ["id", None, "name", {}]])
def test_a_malformed_event_of_a_message_is_refused(raw: list[object]) -> None:
    """An event from another process has four parts and a time; anything else raises."""
    with pytest.raises((TypeError, ValueError)):
        event_from_json(raw)
    assert event_from_json(["id", 1, "zone.up", {"zone": "office"}]) == Event("id", 1, "zone.up", {"zone": "office"})

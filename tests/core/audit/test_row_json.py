"""A row as one flat object."""

import json
from zoneinfo import ZoneInfo

from relay.core.audit.event import Event
from relay.core.audit.hash_chain import GENESIS, link
from relay.core.audit.row_json import clock, flat, stamp
from tests.audit_rows import NOON, Relay


def test_a_row_is_flat_and_its_own_words_hold() -> None:
    """Every field beside what the row itself says; a field with the name of one of those hides nothing."""
    opened = Relay().opened(Relay().connect())
    row = link("relay", 1, GENESIS, Event(opened.id, opened.time, opened.name, {**opened.fields, "hash": "forged"}))
    shown = flat(row)
    assert json.loads(json.dumps(shown)) == shown
    assert {key: shown[key] for key in ("person", "asked", "event", "seq", "node", "schema", "prev")} == {
        "person": "alice",
        "asked": "remote:22",
        "event": "forward.opened",
        "seq": 1,
        "node": "relay",
        "schema": 1,
        "prev": GENESIS,
    }
    assert (shown["hash"], shown["time"]) == (row.hash, "2026-10-01T12:00:01.000000Z")


def test_instants_are_text_whatever_their_number() -> None:
    """RFC 3339 in UTC, a person's clock in a zone; a number that no calendar holds stays a number."""
    assert stamp(NOON + 1) == "2026-10-01T12:00:00.000001Z"
    assert clock(NOON + 1, ZoneInfo("Asia/Shanghai")) == "2026-10-01 20:00:00.000001"
    assert clock(2**62, ZoneInfo("UTC")) == f"{2**62} us"

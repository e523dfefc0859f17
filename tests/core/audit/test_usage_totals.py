"""What rows come to."""

import pytest

from relay.core.audit.event import Event
from relay.core.audit.usage_totals import BY, COLUMNS, TotalsPart, UsageTotal, group, portion
from tests.audit_rows import ALICE, NOON, Relay

relay = Relay()
alice = relay.connect()
OPENED = relay.opened(alice)
CLOSED = relay.closed(OPENED)
DENIED = relay.denied(alice)
STARTED = relay.event("server.started", version="0.1.0")


def test_a_forward_counts_where_it_began_and_its_bytes_where_it_ended() -> None:
    """Two rows of one forward are one forward, with the bytes and the time of its end; a denial is one denied."""
    assert portion(OPENED).total == UsageTotal(1, 1, 0, 0, 0, 0, OPENED.time, OPENED.time)
    assert portion(CLOSED).total == UsageTotal(1, 0, 0, 1500, 2_500_000, 61_000_000, CLOSED.time, CLOSED.time)
    both = portion(CLOSED).total + portion(OPENED).total + portion(DENIED).total
    assert both == UsageTotal(3, 1, 1, 1500, 2_500_000, 61_000_000, OPENED.time, DENIED.time)
    assert portion(relay.refused(alice)).total.denied == 1
    assert portion(relay.gone(alice)).total.duration == 0, "a connection's time is not a forward's"
    assert UsageTotal() + both == both


def test_what_is_no_number_counts_for_nothing() -> None:
    """A closing row of a lost worker knows no bytes."""
    lost = Event("x", NOON, "forward.closed", {"forward": "f", "reason": "worker-lost", "sent": None, "received": True})
    assert portion(lost).total == UsageTotal(1, 0, 0, 0, 0, 0, NOON, NOON)


@pytest.mark.parametrize(
    ("by", "event", "names"),
    [
        ("person", OPENED, ("alice",)),
        ("person", STARTED, None),
        ("key", CLOSED, (ALICE, "alice")),
        ("key", Event("x", 1, "key.revoked", {"fingerprint": ALICE}), (ALICE, "")),
        ("key", STARTED, None),
        ("client", DENIED, ("203.0.113.7",)),
        ("target", OPENED, ("192.168.1.201:22", "office")),
        ("target", relay.opened(alice, "[fd00::1]:443", "fd00::1", port=443), ("[fd00::1]:443", "office")),
        ("target", DENIED, ("recorder:22", "")),
        ("target", STARTED, None),
        ("day", STARTED, ("2026",)),
    ],
)
def test_a_row_is_of_one_group_or_of_none(by: str, event: Event, names: tuple[str, ...] | None) -> None:
    """The address that was judged, whatever it was called; a row without the word is of no group."""
    found = group(by, portion(event), lambda us: "2026")
    assert found == names
    assert found is None or len(found) == len(COLUMNS[by])


def test_every_grouping_has_its_columns() -> None:
    """One name for each word of a group."""
    assert set(COLUMNS) == set(BY)
    assert group("person", TotalsPart({"person": 7}, 0, UsageTotal()), str) is None

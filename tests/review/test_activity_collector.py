"""A window of the log, added up."""

from datetime import UTC, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from relay.review.activity_collector import collect_activity
from relay.review.activity_summary import DAY, MOST, TOP, ReportSpan
from relay.review.first_seen import SeenItems
from relay.store.preauth_counters import AttemptCount
from tests.audit_rows import ALICE, NOON, Relay, chained
from tests.audit_team import HOUR, Team

SHANGHAI = ZoneInfo("Asia/Shanghai")


def account(events, since=NOON - DAY, until=NOON + DAY, past=None, zone=SHANGHAI, **more):
    """What these events add up to."""
    return collect_activity(chained(events), ReportSpan(since, until, zone), past or SeenItems(), **more)


def test_a_day_adds_up():
    """Each thing is counted where it belongs: openings and denials when they were, bytes at the end."""
    found = account(Relay().day())
    assert (found.total.opened, found.total.denied, found.logins, found.open) == (2, 1, 2, 1)
    assert (found.total.sent, found.total.received, found.total.duration) == (1500, 2_500_000, 61_000_000)
    assert found.persons["alice"].opened == found.persons["bob"].opened == 1
    assert found.persons["alice"].denied == 1
    assert found.pairs["alice", ("office", "192.168.1.201")].bytes == 2_501_500
    assert found.name(("office", "192.168.1.201")) == "remote"
    assert found.name(("office", "192.168.1.50")) == "192.168.1.50"
    assert found.reasons["deny-rule"].count == 1
    assert found.reasons["deny-rule"].targets == {"recorder:22": 1}
    assert list(found.sources) == ["203.0.113.0/24"]
    assert found.requests == {("channel", "session"): 1}
    assert found.ends == {"client-closed": 1}
    assert [row.event.name for row in found.notable] == ["server.started", "site.applied", "key.added"]
    assert found.head[0] == found.rows == 11


def test_hours_are_the_sites():
    """Noon in Greenwich on a Thursday is eight in the evening in Shanghai."""
    found = account(Relay().day())
    assert found.hours[3][20] == 2
    assert sum(map(sum, found.hours)) == 2


def test_the_same_sums_however_the_window_is_cut():
    """Days add up to the month, and columns to the total."""
    events = list(Team(NOON, days=8, forwards=300).events())
    whole = account(events, NOON - 8 * DAY, NOON)
    parts = [account(events, NOON - day * DAY, NOON - (day - 1) * DAY) for day in range(8, 0, -1)]
    for key in ("opened", "denied", "sent", "received", "duration"):
        assert sum(getattr(part.total, key) for part in parts) == getattr(whole.total, key)
        assert sum(getattr(one, key) for one in whole.columns.values()) == getattr(whole.total, key)
        assert sum(getattr(one, key) for one in whole.persons.values()) == getattr(whole.total, key)
    assert whole.total.opened > 200


@pytest.mark.parametrize(
    ("days", "step", "count"),
    [(1, "hour", 25), (30, "day", 31), (92, "day", 93), (200, "week", 30), (1500, "month", 50)],
)
def test_columns_are_hours_days_or_weeks(days, step, count):
    """None is missing, also those in which nothing happened."""
    window = ReportSpan(NOON - days * DAY + HOUR // 2, NOON, SHANGHAI)
    starts = window.starts()
    assert window.step == step
    assert abs(len(starts) - count) <= 1
    assert starts == sorted(starts)
    gaps = {later - earlier for earlier, later in pairwise(starts)}
    assert len(gaps) == 1 or step == "month"


def test_a_day_of_twenty_three_hours_is_one_column():
    """When the clocks go forward no day is lost and none is told twice."""
    begin = int(datetime(2026, 3, 25, tzinfo=UTC).timestamp()) * 1_000_000
    starts = ReportSpan(begin, begin + 8 * DAY, ZoneInfo("Europe/Berlin")).starts()
    assert [start.day for start in starts] == [25, 26, 27, 28, 29, 30, 31, 1, 2]


def test_longest_and_largest():
    """In order, cut at a number, those that are still open among the longest."""
    relay = Relay()
    alice = relay.connect()
    events = []
    for number in range(TOP + 5):
        opened = relay.opened(alice)
        events += [opened, relay.closed(opened, duration=number * 1_000_000, sent=0, received=1000 - number)]
    events.append(relay.opened(alice, "nas:22"))
    found = account(events)
    assert len(found.longest) == len(found.largest) == TOP
    assert found.longest[0].reason == ""
    assert [one.duration for one in found.longest[1:]] == sorted(
        (one.duration for one in found.longest[1:]), reverse=True
    )
    assert [one.received for one in found.largest] == list(range(1000, 1000 - TOP, -1))


def test_what_is_new_is_new_once():
    """A person, a key, its network, a client version, a program, a target; what follows from another is not told."""
    relay = Relay()
    past = SeenItems()
    usual = relay.connect()
    for row in chained([relay.login(usual), relay.opened(usual)]):
        past.meet(row.event.fields, row.event.time)
    assert account([relay.login(usual), relay.opened(usual)], past=past).firsts == []
    elsewhere = relay.connect(client="198.51.100.9")
    other = relay.connect(fingerprint="SHA256:another", client="198.51.100.9", client_version="SSH-2.0-paramiko_3")
    bob = relay.connect("bob", client_version="SSH-2.0-paramiko_3")
    events = [
        *(relay.login(elsewhere), relay.opened(elsewhere), relay.opened(elsewhere, "nas:22", "192.168.1.9")),
        *(relay.login(other), relay.opened(other, "remote:443"), relay.login(bob), relay.login(bob)),
        relay.login(relay.connect(client_version="SSH-2.0-Go")),
    ]
    told = [(one.kind, one.person, one.what or one.port) for one in account(events, past=past).firsts]
    assert told == [
        ("network", "alice", "198.51.100.0/24"),
        ("pair", "alice", 22),
        ("key", "alice", "SHA256:another"),
        ("version", "alice", "SSH-2.0-paramiko_3"),
        ("pair", "alice", 443),
        ("person", "bob", told[5][2]),
        ("version", "alice", "SSH-2.0-Go"),
    ]


def test_a_row_written_late_belongs_to_the_past():
    """A row of before the window that stands behind its beginning makes nothing new."""
    relay = Relay()
    alice = relay.connect()
    late, now = relay.login(alice), relay.login(alice)
    found = account([late, now], since=now.time)
    assert (found.rows, found.firsts) == (1, [])


def test_outages():
    """From down to up; another obstacle in between; one that began before the window; one that lasts."""
    relay = Relay()
    alice = relay.connect()
    opened = relay.opened(alice)
    events = [
        relay.event("zone.up", zone="plant", duration=DAY),
        opened,
        relay.event("zone.down", zone="office", reason="route-missing", detail="no route"),
        relay.closed(opened, "overlay-down", obstacle="route-missing"),
        relay.event("zone.down", zone="office", reason="interface-missing"),
        relay.event("zone.up", zone="office", duration=5_000_000),
        relay.event("zone.down", zone="office", reason="interface-down"),
    ]
    plant, first, second, third = account(events).outages
    assert (plant.zone, plant.ended - plant.began) == ("plant", DAY)
    assert (first.reason, first.cut, first.ended == second.began) == ("route-missing", 1, True)
    assert second.ended == events[5].time
    assert third.ended is None


def test_what_could_grow_without_end_is_cut():
    """Requests of ever new types, rows by the thousand, asked targets: bounded, and said so."""
    relay = Relay()
    alice = relay.connect()
    events = [relay.refused(alice, f"type{number}") for number in range(MOST + 9)]
    events += [
        relay.event("ban.begun", source=f"192.0.2.{number}", reason="no-key", count=1) for number in range(MOST + 5)
    ]
    events += [
        relay.denied(alice, f"host{number}:22", client=f"10.{number >> 8}.{number & 255}.1")
        for number in range(MOST + 3)
    ]
    found = account(events)
    assert (len(found.requests), len(found.notable), len(found.sources)) == (MOST, MOST, MOST)
    assert found.left_out == {"notable": 5, "sources": 3}
    assert len(found.reasons["deny-rule"].targets) == 100
    assert found.reasons["deny-rule"].count == MOST + 3
    assert found.notable[-1].event.fields["source"] == f"192.0.2.{MOST + 4}"


def test_checkpoints_and_strangers():
    """The last one, and how many rows stand behind it; counts outside of the chain are added up by network and kind."""
    relay = Relay()
    sealed = relay.event("audit.sealed", epoch=1, key="k", next="n", count=1, open=0, within=900, signature="s")
    attempts = [AttemptCount(1, "203.0.113.0/24", "no-key", 3), AttemptCount(2, "203.0.113.0/24", "no-key", 4)]
    found = account(
        [relay.event("server.started", version="1"), sealed, relay.login(relay.connect())], attempts=attempts
    )
    assert (found.seals, found.sealed.event, found.unsealed) == (1, sealed, 1)
    assert found.strangers == {("203.0.113.0/24", "no-key"): 7}


def test_a_closing_row_that_knows_little():
    """A lost worker's closing row names the forward only: the opening row says whose it was."""
    relay = Relay()
    opened = relay.opened(relay.connect())
    lost = relay.event("forward.closed", forward=opened.fields["forward"], reason="worker-lost")
    found = account([opened, lost])
    assert (found.open, found.ends) == (0, {"worker-lost": 1})
    assert found.longest[0].person == "alice"
    assert account([lost]).total.opened == 0
    assert ALICE in str(opened)

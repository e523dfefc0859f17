"""What a reviewer hears of, and what is left in peace."""

from datetime import UTC

import pytest

from relay.core.policy.site_item import SiteItem
from relay.review.activity_collector import collect_activity
from relay.review.activity_summary import DAY, ReportSpan
from relay.review.digest import SPIKE_LEAST, digest_items
from relay.review.first_seen import SeenItems
from relay.review.unused_items import unused_items
from tests.audit_rows import ALICE, NOON, Relay, chained

WINDOW = ReportSpan(NOON - DAY, NOON + DAY, UTC)


def known(*events):
    """What somebody who saw these events is acquainted with."""
    past = SeenItems()
    for row in chained(events):
        past.meet(row.event.fields, row.event.time, denied=row.event.name == "forward.denied")
    return past


def told(events, past=None, holdings=(), begins=NOON - 30 * DAY):
    """The news of these events, as lines."""
    past = past or known()
    found = collect_activity(chained(events), WINDOW, past, begins=begins)
    return [("! " if one.grave else "") + one.text() for one in digest_items(found, past, holdings)]


def test_an_ordinary_day_is_no_news():
    """The same people from the same places at the same targets: silence, which is what cron wants."""
    relay = Relay()
    alice = relay.connect()
    day = [relay.login(alice), relay.opened(alice), relay.denied(alice), relay.refused(alice), relay.gone(alice)]
    assert told(day, known(*day)) == []


def test_in_a_young_log_nothing_is_called_new():
    """Everybody would be: the first week's digest tells of what went wrong only."""
    relay = Relay()
    alice = relay.connect()
    assert told([relay.login(alice), relay.opened(alice)]) == []


def test_what_is_new():
    """One line a person for all the targets, the first few by name."""
    relay = Relay()
    alice, bob = relay.connect(), relay.connect("bob", client="198.51.100.1")
    past = known(relay.login(alice))
    openings = [relay.opened(alice, f"host{number}:22", f"192.168.1.{number}") for number in range(6)]
    assert told([relay.login(bob), relay.login(relay.connect(client="198.51.100.9")), *openings], past) == [
        "bob was here for the first time",
        "alice came from a new network, 198.51.100.0/24",
        "alice reached for the first time: host0:22, host1:22, host2:22, host3:22, +2",
    ]


@pytest.mark.parametrize(
    ("usual", "now", "is_news"),
    [(0, SPIKE_LEAST, True), (0, SPIKE_LEAST - 1, False), (100, 20, True), (100, 39, True), (200, 39, False)],
)
def test_many_denials_are_news_where_they_are_unusual(usual, now, is_news):
    """Twenty at least, and three times as many as in a like span before (a fifteenth of thirty days here)."""
    relay = Relay()
    alice = relay.connect()
    past = known(*(relay.denied(alice) for _ in range(usual)), relay.login(alice))
    window = ReportSpan(relay.now, relay.now + 2 * DAY, UTC)
    rows = chained([relay.denied(alice) for _ in range(now)])
    found = digest_items(collect_activity(rows, window, past, begins=window.since - 30 * DAY), past)
    assert [one.kind for one in found] == ["denied"] * is_news


def test_what_went_wrong_and_what_was_done():
    """The grave things first; who did it, by the name at log-in."""
    relay = Relay()
    lines = told(
        [
            relay.event("key.added", person="bob", fingerprint=ALICE, by_uid=0),
            relay.event("key.revoked", person="carol", fingerprint=ALICE, why="left", by_sudo="dora"),
            relay.event("ban.begun", source="192.0.2.1", reason="no-key", count=9),
            relay.event("ban.begun", source="192.0.2.2", reason="no-key", count=9),
            relay.event("limit.reached", kind="forwards_per_key", reason="too-many", person="bob"),
            relay.event("limit.reached", kind="forwards_per_key", reason="too-many", person="bob"),
            relay.event("zone.down", zone="office", reason="route-missing"),
            relay.event("scan.seen", person="bob", fingerprint=ALICE, count=50),
            relay.event("audit.lost", count=3, reason="full"),
            relay.event("server.started", version="0.1.0"),
            relay.event("audit.key", key="k", epoch=1, reason="init"),
            relay.event("audit.key", key="l", epoch=9, reason="lost"),
        ]
    )
    assert lines == [
        "! the zone office is down: route-missing",
        "! bob tried 50 different targets within a minute",
        "! rows of the audit log that could not be written: 3 (full)",
        "! the audit log has a new signing key: lost",
        "the zone office was down for 23 h 59 min (outages: 1), last: route-missing",
        "a key of bob was let in by uid 0",
        "a key of carol was revoked by dora: left",
        "penalised sources: 192.0.2.1, 192.0.2.2 (penalties: 2)",
        "the limit of forwards_per_key was reached by bob (minutes: 2)",
    ]


@pytest.mark.parametrize(
    ("days", "line"),
    [
        (15, None),
        (14, "a key of bob ends in 14 days (keys/bob.pub:1)"),
        (1, "a key of bob ends in 1 days (keys/bob.pub:1)"),
        (-1, "a key of bob has ended (keys/bob.pub:1)"),
        (-3, None),
    ],
)
def test_what_ends_within_two_weeks_or_has_ended_in_the_window(days, line):
    """In time for two weekly reviews."""
    until = (WINDOW.until + days * DAY) // 1_000_000
    held = SiteItem("key", ALICE, "keys/bob.pub", 1, 1, owner="bob", until=until)
    assert told([Relay().event("server.started", version="1")], holdings=[held]) == ([line] if line else [])


def test_a_hostile_name_cannot_move_the_cursor_or_fill_the_screen():
    """Whoever reads the digest by mail or on a terminal sees text."""
    relay = Relay()
    past = known(relay.login(relay.connect()))
    (line, *_) = told(
        [relay.login(relay.connect("alice", client_version="SSH-2.0-\x1b[2J\u202eevil" + "x" * 900))], past
    )
    assert line.isprintable()
    assert len(line) < 300


HELD = (
    SiteItem("person", "alice", "keys/alice.pub"),
    SiteItem("key", ALICE, "keys/alice.pub", 1, 1, owner="alice"),
    SiteItem("key", "SHA256:old", "keys/alice.pub", 2, 2, owner="alice"),
    SiteItem("person", "wendy", "keys/wendy.pub"),
    SiteItem("key", "SHA256:wendy", "keys/wendy.pub", 1, 1, owner="wendy"),
    SiteItem("person", "newcomer", "keys/newcomer.pub"),
    SiteItem("key", "SHA256:new", "keys/newcomer.pub", 1, 1, owner="newcomer"),
    SiteItem("host", "remote", "policies/a.yaml", 4, 4, zone="office", address="192.168.1.201"),
    SiteItem("host", "fax", "policies/a.yaml", 5, 7, zone="office", address="192.168.1.250"),
    SiteItem("host", "x", "policies/a.yaml", 9, 9, shared=True, zone="office", address="192.168.1.9"),
    SiteItem("rule", "ops reach the office by ssh", "policies/a.yaml", 11, 11),
    SiteItem("rule", "old", "policies/it's.yaml", 3, 3),
    SiteItem("deny rule", "off limits", "policies/a.yaml", 14, 14),
)


def test_what_nobody_used_with_what_takes_it_away():
    """From the bottom of each file up; what was let in within the window is given time; when it was used last."""
    relay = Relay()
    alice = relay.connect()
    past = known(relay.login(relay.connect("wendy", fingerprint="SHA256:wendy")))
    events = [relay.login(alice), relay.opened(alice)]
    events.append(relay.event("key.added", person="newcomer", fingerprint="SHA256:new"))
    found = unused_items(HELD, collect_activity(chained(events), WINDOW, past), past)
    assert [(one.holding.kind, one.holding.name, one.remedy("/etc/relay")) for one in found] == [
        ("person", "wendy", "rm /etc/relay/keys/wendy.pub"),
        ("key", "SHA256:old", "sed -i 2d /etc/relay/keys/alice.pub"),
        ("key", "SHA256:wendy", "sed -i 1d /etc/relay/keys/wendy.pub"),
        ("host", "x", "# edit policies/a.yaml:9: other entries share the line"),
        ("host", "fax", "sed -i 5,7d /etc/relay/policies/a.yaml"),
        ("rule", "old", "sed -i 3d '/etc/relay/policies/it'\"'\"'s.yaml'"),
        ("deny rule", "off limits", "sed -i 14d /etc/relay/policies/a.yaml"),
    ]
    assert [one.last is not None for one in found] == [True, False, True, False, False, False, False]

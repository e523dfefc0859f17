"""Unused rules, hosts, persons and keys, and the commands that remove them."""

from zoneinfo import ZoneInfo

import pytest

from relay.core.policy.site_item import SiteItem
from relay.review.activity_collector import collect_activity
from relay.review.activity_summary import DAY, ReportSpan
from relay.review.first_seen import SeenItems
from relay.review.unused_items import UnusedItem, unused_items
from tests.audit_rows import ALICE, BOB, NOON, Relay, chained


def unused(events, holdings, past=None):
    """The unused items of a window with these events."""
    past = past or SeenItems()
    span = ReportSpan(NOON - DAY, NOON + DAY, ZoneInfo("UTC"))
    return unused_items(holdings, collect_activity(chained(events), span, past), past)


def test_an_item_without_any_trace_is_unused_and_a_used_one_is_not():
    """By person, key and host; an earlier use outside the window is named."""
    relay = Relay()
    alice = relay.connect()
    past = SeenItems()
    past.meet({"person": "bob", "fingerprint": BOB}, 7)
    held = [
        SiteItem("person", "alice", "keys/alice.pub", 1, 1, owner="alice"),
        SiteItem("key", ALICE, "keys/alice.pub", 1, 1, owner="alice"),
        SiteItem("key", BOB, "keys/bob.pub", 1, 1, owner="bob"),
        SiteItem("host", "remote", "policies/a.yaml", 3, 3, zone="office", address="192.168.1.201"),
        SiteItem("host", "fax", "policies/a.yaml", 4, 4, zone="office", address="192.168.1.250"),
    ]
    found = unused([relay.login(alice), relay.opened(alice)], held, past)
    assert [(item.holding.name, item.last) for item in found] == [(BOB, 7), ("fax", None)]


def test_a_key_added_within_the_window_is_not_unused():
    """Its owner had no time to use it."""
    added = Relay().event("key.added", person="bob", fingerprint=BOB)
    held = [
        SiteItem("person", "bob", "keys/bob.pub", 1, 1, owner="bob"),
        SiteItem("key", BOB, "keys/bob.pub", 1, 1, owner="bob"),
    ]
    assert unused([added], held) == ()


@pytest.mark.parametrize(
    ("item", "command"),
    [
        (SiteItem("person", "bob", "keys/bob.pub", 1, 1), "rm '/etc/my relay/keys/bob.pub'"),
        (SiteItem("rule", "web", "policies/a.yaml", 3, 3), "sed -i 3d '/etc/my relay/policies/a.yaml'"),
        (SiteItem("rule", "web", "policies/a.yaml", 3, 6), "sed -i 3,6d '/etc/my relay/policies/a.yaml'"),
    ],
)
def test_the_command_that_removes_an_item(item, command):
    """A file, one line or several, quoted for the shell."""
    assert UnusedItem(item, None).remedy("/etc/my relay") == command

"""What counts as the same network, and as the same program."""

import pytest

from relay.review.first_seen import SeenItems, network, program


@pytest.mark.parametrize(
    ("client", "found"),
    [
        ("203.0.113.7", "203.0.113.0/24"),
        ("203.0.114.7", "203.0.114.0/24"),
        ("2001:db8:1:2::7", "2001:db8:1::/48"),
        ("nonsense", "nonsense"),
        ("", ""),
    ],
)
def test_the_network_of_a_client(client, found):
    """A /24 or a /48, as strangers are counted."""
    assert network(client) == found


@pytest.mark.parametrize(
    ("version", "found"),
    [
        ("SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u5", "OpenSSH"),
        ("SSH-2.0-OpenSSH_for_Windows_8.1", "OpenSSH_for_Windows"),
        ("SSH-2.0-PuTTY_Release_0.81", "PuTTY_Release"),
        ("SSH-2.0-paramiko_3.4.0", "paramiko"),
        ("SSH-2.0-Go", "Go"),
        ("SSH-2.0-7", "7"),
        ("odd", "odd"),
    ],
)
def test_the_program_is_the_version_without_its_numbers(version, found):
    """So an upgrade of everybody's OpenSSH is one piece of news, not thirty."""
    assert program(version) == found


def test_what_was_denied_was_not_reached():
    """A denied forward makes nobody acquainted with its target, but its rule was of use."""
    seen = SeenItems()
    fields = {"person": "bob", "zone": "office", "address": "192.168.1.50", "port": 22, "rule": "off limits"}
    seen.meet(fields, 7, denied=3)
    assert not seen.pairs
    assert not seen.places
    assert seen.rules == {"off limits": 7}
    assert (seen.denied, seen.denied_of) == (3, {"bob": 3})
    seen.meet(fields, 9)
    assert seen.pairs == {("bob", ("office", "192.168.1.50"), 22): 9}


def test_the_last_time_is_kept():
    """Whatever the order in which things are met."""
    seen = SeenItems()
    for time in (5, 9, 7):
        seen.meet({"person": "bob"}, time)
    assert seen.persons == {"bob": 9}

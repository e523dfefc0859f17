"""relay.core.policy.inventory: which destination a target means."""

from ipaddress import ip_address, ip_network

import pytest

from relay.core.policy.inventory import Inventory, clashes, in_zone, pair_text
from relay.core.policy.model import Decision, Destination, Host, Reason, Zone
from relay.core.policy.target import parse_target
from relay.errors import InputRejected

OFFICE = Zone("office", (ip_network("192.168.1.0/24"), ip_network("192.168.0.0/16"), ip_network("fd00::/64")), "zt*")
PLANT = Zone("plant", (ip_network("192.168.1.0/24"), ip_network("10.0.0.0/8"), ip_network("fd00::/64")), "wg0")
REMOTE_OFFICE = Host("remote", "office", ip_address("192.168.1.201"))
REMOTE_PLANT = Host("remote", "plant", ip_address("192.168.1.202"))
CAMERA = Host("camera.gate", "plant", ip_address("10.0.0.7"))


def inventory(public: str = "") -> Inventory:
    made = Inventory(public)
    for zone in (OFFICE, PLANT):
        made.add_zone(zone)
    for host in (REMOTE_OFFICE, REMOTE_PLANT, CAMERA):
        made.add_host(host)
    return made


@pytest.mark.parametrize(
    ("asked", "zone", "address"),
    [
        ("remote.office", "office", "192.168.1.201"),
        ("remote.plant", "plant", "192.168.1.202"),
        ("camera.gate", "plant", "10.0.0.7"),
        ("camera.gate.plant", "plant", "10.0.0.7"),
        ("10.0.0.7", "plant", "10.0.0.7"),
        ("192.168.2.1", "office", "192.168.2.1"),
        ("192.168.1.201.office", "office", "192.168.1.201"),
        ("192.168.1.201.plant", "plant", "192.168.1.201"),
        ("::ffff:10.0.0.7", "plant", "10.0.0.7"),
        ("fd00::1.plant", "plant", "fd00::1"),
    ],
)
def test_what_means_one_thing_is_found(asked: str, zone: str, address: str) -> None:
    """A unique name, NAME.ZONE, a literal in one zone, LITERAL.ZONE."""
    assert inventory().resolve(parse_target(asked, 22)) == Destination(zone, ip_address(address), 22)


@pytest.mark.parametrize(
    ("asked", "choices"),
    [
        ("remote", ("remote.office", "remote.plant")),
        ("192.168.1.201", ("192.168.1.201.office", "192.168.1.201.plant")),
        ("[fd00::1]", ("fd00::1.office", "fd00::1.plant")),
    ],
)
def test_what_means_two_things_is_refused_with_the_choices(asked: str, choices: tuple[str, ...]) -> None:
    """Each choice can be typed, and means one thing."""
    found = inventory().resolve(parse_target(asked, 22))
    assert isinstance(found, Decision)
    assert (found.allowed, found.reason, found.choices) == (False, Reason.AMBIGUOUS_TARGET, choices)
    assert all(isinstance(inventory().resolve(parse_target(choice, 22)), Destination) for choice in choices)


@pytest.mark.parametrize(
    ("asked", "reason", "words"),
    [
        ("remot", Reason.UNKNOWN_TARGET, "not a host of the inventory"),
        ("camera", Reason.UNKNOWN_TARGET, "not a host of the inventory"),
        ("remote.lab", Reason.UNKNOWN_TARGET, "not a host of the inventory"),
        ("office", Reason.UNKNOWN_TARGET, "not a host of the inventory"),
        ("example.com", Reason.UNKNOWN_TARGET, "not a host of the inventory"),
        ("11.0.0.1", Reason.UNKNOWN_TARGET, "in no zone"),
        ("10.0.0.7.office", Reason.UNKNOWN_TARGET, "not in the zone office"),
        ("10.0.0.7.lab", Reason.UNKNOWN_TARGET, "names no zone: lab"),
        ("169.254.169.254", Reason.FORBIDDEN_ADDRESS, "link-local"),
        ("127.0.0.1", Reason.FORBIDDEN_ADDRESS, "loopback"),
    ],
)
def test_what_means_nothing_is_refused(asked: str, reason: Reason, words: str) -> None:
    """Nothing is looked up anywhere else."""
    found = inventory().resolve(parse_target(asked, 22))
    assert isinstance(found, Decision)
    assert (found.allowed, found.reason) == (False, reason)
    assert words in found.detail


def test_the_relay_is_no_target_of_itself() -> None:
    """Its public name is refused even when a host of the inventory has that name."""
    made = inventory("camera.gate")
    found = made.resolve(parse_target("camera.gate", 22))
    assert isinstance(found, Decision)
    assert found.reason is Reason.FORBIDDEN_ADDRESS


def test_the_shortest_spelling() -> None:
    """A name alone where it is unique, else with its zone."""
    assert [inventory().spelling(host) for host in (REMOTE_OFFICE, CAMERA)] == ["remote.office", "camera.gate"]


@pytest.mark.parametrize(
    ("place", "what"),
    [
        (Zone("office", (), "zt0"), "twice"),
        (Zone("10", (), "zt0"), "begins with a number"),
        (REMOTE_OFFICE, "twice"),
        (Host("Remote", "office", ip_address("192.168.1.9")), "capital"),
        (Host("far", "office", ip_address("10.0.0.1")), "outside of its zone"),
        (Host("far", "lab", ip_address("10.0.0.1")), "outside of its zone"),
    ],
)
def test_unfit_places_are_rejected(place: Zone | Host, what: str) -> None:
    """The inventory holds nothing that could not be reached by its name."""
    with pytest.raises(InputRejected, match=what):
        inventory().add_zone(place) if isinstance(place, Zone) else inventory().add_host(place)


def test_clashes_name_both_places_and_the_text() -> None:
    """The same (name, zone) twice, a zone's name for a host, and a dotted name that is another's NAME.ZONE."""
    zone_again = Zone("office", (), "zt9")
    dotted_zone = Zone("gate.office", (), "zt8")
    twin = Host("remote", "office", ip_address("192.168.1.9"))
    dotted = Host("remote.office", "plant", ip_address("10.0.0.1"))
    as_zone = Host("plant", "office", ip_address("192.168.1.9"))
    gate = Host("gate", "office", ip_address("192.168.1.9"))
    assert clashes((OFFICE, PLANT), (REMOTE_OFFICE, REMOTE_PLANT, CAMERA)) == ()
    assert clashes((OFFICE, zone_again), ()) == ((OFFICE, zone_again, "office"),)
    assert clashes((OFFICE,), (REMOTE_OFFICE, twin)) == ((REMOTE_OFFICE, twin, "remote.office"),)
    assert clashes((OFFICE, PLANT), (dotted, REMOTE_OFFICE)) == ((REMOTE_OFFICE, dotted, "remote.office"),)
    assert clashes((OFFICE, PLANT), (as_zone,)) == ((PLANT, as_zone, "plant"),)
    assert clashes((OFFICE, dotted_zone), (gate,)) == ((dotted_zone, gate, "gate.office"),)


def test_dots_can_be_split_in_two_ways() -> None:
    """`a` in `b.c` and `a.b` in `c` are both typed a.b.c."""
    zones = (Zone("b.c", (ip_network("10.0.0.0/8"),), "zt1"), Zone("c", (ip_network("11.0.0.0/8"),), "zt2"))
    one, other = Host("a", "b.c", ip_address("10.0.0.1")), Host("a.b", "c", ip_address("11.0.0.1"))
    assert clashes(zones, (one, other)) == ((one, other, "a.b.c"),)


def test_places_in_words() -> None:
    """A single address without its prefix length."""
    assert pair_text("office", ip_network("192.168.1.50/32")) == "192.168.1.50 in office"
    assert pair_text("office", ip_network("192.168.1.0/24")) == "192.168.1.0/24 in office"
    assert in_zone(PLANT, ip_address("10.0.0.1"))
    assert not in_zone(PLANT, ip_address("11.0.0.1"))

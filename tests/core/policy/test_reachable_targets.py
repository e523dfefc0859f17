"""relay.core.policy.reachable_targets: what a person may reach now."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from relay.core.policy.model import Address, Destination, Host, Rule
from relay.core.policy.policy import EMPTY, Policy
from relay.core.policy.reachable_targets import reach
from tests.core import reference
from tests.core.policy.test_policy import CONTRACTOR, HERE, HOSTS, NOW, OFFICE, OPS, PLANT, RECORDER, REMOTE, build

EXAMPLE = build(OPS, RECORDER, CONTRACTOR)


def shown(person: str, policy: Policy = EXAMPLE, source: Address | None = HERE) -> list[str]:
    return [str(place) for place in reach(policy, person, source, NOW)]


def test_hosts_come_first_then_networks() -> None:
    """Each once, with its ports."""
    assert shown("alice") == ["remote:22", "192.168.1.0/24 in office:22"]
    assert shown("carol") == ["remote:22"]
    assert shown("carol", source=None) == []
    assert shown("dave") == []
    assert next(reach(EXAMPLE, "alice", HERE, NOW)).host == REMOTE


def test_nothing_by_an_empty_policy() -> None:
    """No policy, nothing reached."""
    assert shown("alice", EMPTY) == []


def test_addresses_without_a_name_can_be_typed() -> None:
    """A single address of a rule is shown with its zone, as it may be asked for."""
    rule = replace(OPS, to=(("office", ip_network("192.168.1.9/32")), ("plant", ip_network("192.168.1.9/32"))))
    assert shown("alice", build(rule, replace(rule, line=99))) == ["192.168.1.9.office:22", "192.168.1.9.plant:22"]


def test_ports_are_exact() -> None:
    """Deny rules, the overlay's control port and the relay's own listeners are cut out of a range."""
    every = replace(OPS, ports=((1, 65535),))
    no_telnet = replace(RECORDER, to=OPS.to, ports=((23, 23),))
    policy = build(every, no_telnet, listeners=[(REMOTE.address, 2222)])
    assert shown("alice", policy) == [
        "remote:1-22, 24-2221, 2223-9992, 9994-65535",
        "192.168.1.0/24 in office:1-22, 24-9992, 9994-65535",
    ]
    assert shown("bob", build(every, no_telnet))[0] == "remote:1-9992, 9994-65535"


def test_what_is_denied_as_a_whole_is_not_shown() -> None:
    """A deny rule about a single address hides that address, not its network; one about the network hides both."""
    camera = Host("recorder", "office", ip_address("192.168.1.50"))
    assert shown("alice", build(OPS, RECORDER, hosts=(*HOSTS, camera))) == ["remote:22", "192.168.1.0/24 in office:22"]
    assert shown("alice", build(OPS, replace(RECORDER, to=OPS.to))) == []


def test_rules_that_do_not_hold_now_reach_nothing() -> None:
    """An allow rule that is over is not promised."""
    assert shown("alice", build(replace(OPS, until=NOW))) == []


def test_the_same_name_in_two_zones() -> None:
    """Each is shown so that it can be typed."""
    twin = Host("remote", "plant", ip_address("10.0.0.9"))
    rule = replace(OPS, to=(("office", ip_network("192.168.1.0/24")), ("plant", ip_network("10.0.0.0/8"))))
    policy = build(rule, zones=(OFFICE, PLANT), hosts=(REMOTE, twin))
    assert shown("alice", policy)[:2] == ["remote.office:22", "remote.plant:22"]


@given(st.lists(reference.rules, max_size=8), reference.times, st.sampled_from(reference.PERSONS))
def test_it_promises_exactly_what_is_allowed(rules: list[Rule], now: int, person: str) -> None:
    """For every host and port at which anything changes, what is shown is what a judgement says."""
    hosts = [Host("one", "office", reference.ADDRESSES[0]), Host("six", "office", reference.ADDRESSES[4])]
    policy = build(*rules, zones=reference.ZONES, hosts=hosts)
    source = reference.SOURCES[0]
    promised = {place.host.name: place.ports for place in reach(policy, person, source, now) if place.host}
    for host in hosts:
        for port in {1, 9993, 65535, *reference.PORTS, *(port + 1 for port in reference.PORTS[:-1])}:
            allowed = policy.decide_by_rules(person, source, Destination(host.zone, host.address, port), now).allowed
            assert any(low <= port <= high for low, high in promised.get(host.name, ())) is allowed


def test_a_part_of_a_network_is_not_the_whole() -> None:
    """What is allowed in its first half is promised for that half only."""
    half = replace(OPS, line=99, name="half", to=(("office", ip_network("192.168.1.0/25")),), ports=((80, 80),))
    assert shown("alice", build(OPS, half, hosts=())) == [
        "192.168.1.0/24 in office:22",
        "192.168.1.0/25 in office:22, 80",
    ]

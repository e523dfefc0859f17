"""Answers of the API as values: recorded ones, and any JSON at all."""

from ipaddress import ip_address, ip_interface, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.net.zerotier import node_view
from relay.net.zerotier.node_view import ApiStatus, ManagedRoute
from tests.net.recorded import PATHS, STATES, answers


def test_a_healthy_relay() -> None:
    """Node, network, addresses, routes as sent, and the gateway's peer with its path."""
    view = node_view.parse_answers(answers("healthy.relay"))
    assert (view.status, view.node, view.version, view.online) == (ApiStatus.ANSWERS, "cf33a232e1", "1.14.1", True)
    (network,) = view.networks
    assert (network.id, network.status, network.interface) == ("cf33a232e100ab01", "OK", "zt0")
    assert network.assigned == (ip_interface("172.18.0.10/24"),)
    assert network.routes == (
        ManagedRoute(ip_network("172.18.0.0/24"), None),
        ManagedRoute(ip_network("192.168.1.0/24"), ip_address("172.18.0.200")),
    )
    (peer,) = view.peers
    assert peer.path is not None
    assert (peer.node, peer.role, peer.latency, peer.path.endpoint) == (
        "e7c029fccf", "LEAF", 0.008, "198.51.100.20/9993",
    )  # fmt: skip
    assert peer.heard == pytest.approx(0.205)


def test_a_peer_without_a_path_is_relayed_and_never_heard() -> None:
    """180 s after the gateway died its paths are gone; its latency is not known."""
    peer = node_view.parse_answers(answers("gateway-dead-180s.relay")).peer("e7c029fccf")
    assert peer is not None
    assert (peer.path, peer.heard, peer.latency) == (None, None, None)


def test_a_moon_is_known_by_its_roots() -> None:
    """The moon's id is its root's node with six zeros before it."""
    view = node_view.parse_answers(answers("moon.gateway"))
    assert [(moon.id, moon.roots, moon.waiting) for moon in view.moons] == [
        ("000000cf33a232e1", ("cf33a232e1",), False)
    ]
    assert [peer.node for peer in view.peers if peer.role == "MOON"] == ["cf33a232e1"]


@pytest.mark.parametrize("state", STATES)
def test_every_recorded_state_is_read(state: str) -> None:
    """A stopped service is not running, every other state answers with at least one network."""
    view = node_view.parse_answers(answers(state))
    if state.endswith(".relay") and state.startswith("zerotier-stopped"):
        assert view.status is ApiStatus.NOT_RUNNING
    else:
        assert view.answers
        assert view.network("cf33a232e100ab01") is not None


@pytest.mark.parametrize(
    ("mac", "node"),
    [
        ("02:64:33:43:00:43", "cf33a232e1"),
        ("02:4c:c0:c8:ce:6d", "e7c029fccf"),
        ("06:4c:c0:c8:ce:6d", ""),  # not of this network
        ("da:1e:d0:14:e2:cb", ""),
        ("", ""),
        ("02:4c", ""),
    ],
)
def test_a_mac_tells_the_member(mac: str, node: str) -> None:
    """The MACs of the recorded relay and gateway give their node ids; another MAC gives none."""
    assert node_view.member(mac, "cf33a232e100ab01") == node


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=5),
    max_leaves=20,
)
KEYS = ("address", "clock", "online", "version", "nwid", "status", "portDeviceName", "assignedAddresses", "routes",
        "target", "via", "paths", "lastReceive", "active", "roots", "identity", "id", "latency", "name")  # fmt: skip
WORDS = ("cf33a232e1", "cf33a232e100ab01", "ACCESS_DENIED", "zt0", "10.0.0.0/8", "02:64:33:43:00:43", "10.0.0.1/9993")
WORD = st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.sampled_from(WORDS)
PART = st.lists(st.dictionaries(st.sampled_from(KEYS), WORD, max_size=5), max_size=2)
GOOD = {"address": "cf33a232e1", "nwid": "cf33a232e100ab01", "id": "000000cf33a232e1"}  # else nothing else is looked at
LIKE = st.dictionaries(st.sampled_from(KEYS), WORD | PART | ANY_JSON).map(lambda said: GOOD | said)
LISTED = st.lists(LIKE, max_size=3) | ANY_JSON
STATUSES = st.just([200] * 4) | st.lists(st.sampled_from([200, 401, 500, 0]), min_size=4, max_size=4)


@given(STATUSES, st.tuples(LIKE | ANY_JSON, LISTED, LISTED, LISTED))
def test_any_json_is_a_view(statuses: list[int], said: tuple[object, ...]) -> None:
    """Nothing an API answers can raise, and every id and address has the form that a command may hold."""
    view = node_view.parse_answers(dict(zip(PATHS, zip(statuses, said, strict=True), strict=True)))
    assert view.node.isalnum() or not view.answers
    assert all(network.id.isalnum() and len(network.id) == 16 for network in view.networks)


@pytest.mark.parametrize("text", ["fe80::1%;reboot", "172.18.0.10/24;reboot", "$(reboot)", 7, None, {}])
def test_an_address_holds_nothing_but_an_address(text: object) -> None:
    """An IPv6 scope may be any text for Python; here it is left out with its address."""
    network = {"nwid": "cf33a232e100ab01", "assignedAddresses": [text], "routes": [{"target": text, "via": text}]}
    view = node_view.parse_answers({**answers("healthy.relay"), "/network": (200, [network])})
    assert view.networks[0].assigned == ()
    assert view.networks[0].routes == ()

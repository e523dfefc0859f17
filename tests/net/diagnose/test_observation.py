"""The values of an observation: which network, which peer, which address."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

from relay.core.network_plan import Overlay
from relay.core.policy.model import Host, Zone
from relay.net.diagnose.observation import PortState, Reachability, peer_of, zone_address
from relay.net.probe.ping import Echo
from tests.net import recorded
from tests.net.recorded import REPLY, SILENT, TARGET


def test_an_answer_is_a_reply_or_a_port_that_speaks() -> None:
    """A refused connection comes from the host itself; silence means something only after a probe."""
    assert Reachability(TARGET, echo=REPLY).answers
    for state, answers in ((PortState.OPEN, True), (PortState.REFUSED, True), (PortState.UNREACHABLE, False)):
        assert Reachability(TARGET, echo=SILENT, port_state=state).answers is answers
    assert not Reachability(TARGET).asked
    assert Reachability(TARGET, echo=Echo()).asked


def test_the_zones_network_is_found_by_its_interface() -> None:
    """Without an id in the plan the joined network with the zone's interface is it; a wrong id finds none."""
    seen = recorded.observation("healthy.relay", recorded.overlay())
    joined = seen.joined(recorded.overlay())
    assert joined is not None
    assert joined.id == recorded.NETWORK
    assert seen.joined(recorded.overlay(network_id="0" * 16)) is None


def test_the_peer_is_found_by_its_mac() -> None:
    """The gateway's neighbour entry names the member; without an entry the only peer that is no root is it."""
    overlay = recorded.overlay()
    seen = recorded.observation("healthy.relay", overlay)
    peer = peer_of(seen, seen.joined(overlay))
    assert peer is not None
    assert peer.node == "e7c029fccf"
    assert peer_of(replace(seen, far=None), seen.joined(overlay)) is None


def test_a_zone_is_checked_by_its_host_or_its_first_address() -> None:
    """The first host's address, else the first usable one of the first network."""
    overlay = recorded.overlay()
    assert zone_address(overlay, Host("remote", "office", TARGET)) == TARGET
    assert zone_address(overlay, None) == ip_address("192.168.1.1")
    single = Overlay(Zone("one", (ip_network("10.0.0.7/32"),), "zt0"))
    assert zone_address(single, None) == ip_address("10.0.0.7")

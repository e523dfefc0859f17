"""Every recorded state of the network gives one line that is right, and the command that cures it."""

import errno
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.network_plan import NetworkPlan, Overlay
from relay.core.policy.model import Zone
from relay.net.diagnose.diagnosis import Diagnosis, diagnose
from relay.net.diagnose.observation import Observation, PortState, Reachability, Role, RouteLookup
from relay.net.kernel.interfaces import Interface
from relay.net.kernel.neighbours import Neighbour, NeighbourState
from relay.net.kernel.route_guard import Obstacle, Route, RouteCheck
from relay.net.probe.ping import Echo, EchoKind
from relay.net.zerotier.node_view import ApiStatus, NodeView
from tests.net import recorded
from tests.net.recorded import GATEWAY, NETWORK, OFF, REPLY, SILENT, STATES, TARGET

AUTHORISE = (
    """printf 'X-ZT1-Auth: %s' "$(cat /var/lib/zerotier-one/authtoken.secret)" | curl -sS -H @- """
    """-d '{"authorized":true}' http://127.0.0.1:9993/controller/network/cf33a232e100ab01/member/"""
)
REVIVE = "(is it on, and online?): systemctl restart zerotier-one"
BOTH_SILENT: dict[str, Any] = {"far": SILENT, "target": SILENT}
# state: what the echoes met, the diagnosis' name, words of its line, its cure
TABLE: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "healthy.relay": ({}, "well", "remote answers through 172.18.0.200", ""),
    "healthy.gateway": ({}, "well", "lan0 and zt0 are up", ""),
    "moon.relay": ({}, "well", "remote answers", ""),
    "moon.gateway": ({}, "well", "lan0 and zt0 are up", ""),
    "restarted-route-missing.gateway": ({}, "well", "lan0 and zt0 are up", ""),
    "zerotier-stopped.relay": ({}, "zerotier-stopped", "ZeroTier is not running", "systemctl start zerotier-one"),
    "zerotier-stopped-with-unreachable-route.relay": (
        {}, "zerotier-stopped", "ZeroTier is not running", "systemctl start zerotier-one",
    ),
    "zerotier-stopped.gateway": (
        {"far": SILENT}, "relay-silent", "the relay 172.18.0.10 does not answer; its node cf33a232e1 at "
        "198.51.100.10/9993 was last heard 4 s ago", f"on the relay {REVIVE}",
    ),
    "restarted-route-missing.relay": (
        {"target": None}, "route-missing", "ZeroTier sets it within 30 s of its start",
        "ip route replace 192.168.1.0/24 via 172.18.0.200 dev zt0 metric 5000",
    ),
    "interface-down.relay": ({"far": None}, "interface-down", "zt0 is set down", "ip link set zt0 up"),
    "managed-routes-disallowed.relay": (
        {"far": SILENT}, "managed-disallowed", "neither addresses nor routes from cf33a232e100ab01 (allowManaged=0)",
        "zerotier-cli set cf33a232e100ab01 allowManaged=1",
    ),
    "own-nic-same-prefix.relay": (
        {}, "shadowed", "eth1 has 192.168.1.0/24 of its own, which is the zone office's: the relay goes by zt0 all "
        "the same, other programs do not", "ip address del 192.168.1.5/24 dev eth1",
    ),
    "relay-deauthorized.relay": (
        BOTH_SILENT, "access-denied", "the controller does not let this node (cf33a232e1) into cf33a232e100ab01",
        f"{AUTHORISE}cf33a232e1",
    ),
    "gateway-deauthorized.relay": (
        BOTH_SILENT, "gateway-unauthorised", "the gateway 172.18.0.200 does not answer, but its node e7c029fccf is "
        "alive", f"{AUTHORISE}e7c029fccf",
    ),
    "gateway-deauthorized.gateway": (
        {"far": SILENT}, "relay-unauthorised", "172.18.0.10 does not answer, but its node cf33a232e1 is alive",
        "in the web panel of network cf33a232e100ab01 (its controller is cf33a232e1): authorise e7c029fccf",
    ),
    "gateway-dead-2s.relay": (
        BOTH_SILENT, "gateway-silent", "its node e7c029fccf at 198.51.100.20/9993 was last heard 10 s ago",
        f"on the gateway {REVIVE}",
    ),
    "gateway-dead-180s.relay": (
        BOTH_SILENT, "gateway-silent", "172.18.0.200 does not answer; no member of the overlay answers for its address",
        f"on the gateway {REVIVE}",
    ),
    "gateway-lan-down.relay": (
        {"target": SILENT}, "target-silent", "the gateway answers, but nothing comes back from remote (192.168.1.201)",
        "on the gateway: ip link set lan0 up && sysctl -w net.ipv4.ip_forward=1; relayctl net verify office tells "
        "where it ends",
    ),
    "gateway-lan-down.gateway": (
        {}, "lan-down", "lan0, the way into 192.168.1.0/24, is down; packets for 192.168.1.201 would leave by eth0",
        "ip link set lan0 up",
    ),
    "target-down.relay": (
        {"target": OFF}, "target-down", "remote (192.168.1.201) is off, or has another address",
        "switch it on; on the gateway: ping -c 3 192.168.1.201",
    ),
    "network-not-found.relay": (
        BOTH_SILENT, "network-not-found", "there is no network cf33a232e100dead",
        "zerotier-cli leave cf33a232e100dead, then join the right one",
    ),
    "orbit-without-moon-file.gateway": (
        {"far": SILENT}, "node-offline", "the ZeroTier node is offline: no root answers it, and it does not know the "
        "plan's Moon", "install -D -m 644 -t /var/lib/zerotier-one/moons.d 000000*.moon && systemctl restart "
        "zerotier-one",
    ),
    "root-unreachable.gateway": (
        {"far": SILENT}, "root-unreachable", "no ZeroTier root answers, nor the relay: its node cf33a232e1 at "
        "198.51.100.10/9993 was last heard 65 s ago",
        "ping -c 3 198.51.100.10: this machine must reach it, with UDP port 9993 both ways",
    ),
}  # fmt: skip
MOON = {"moon.relay", "moon.gateway", "orbit-without-moon-file.gateway", "root-unreachable.gateway"}


def diagnosed(state: str, at: Overlay | None = None, **echoes: Any) -> tuple[Diagnosis, ...]:
    at = at or recorded.overlay(network_id="cf33a232e100dead" if state.startswith("network-not-found") else NETWORK,
                                lan_interface="lan0")  # fmt: skip
    seen = recorded.observation(state, at, **(echoes or TABLE[state][0]))
    return diagnose(seen, at, role=Role(state.rpartition(".")[2]), plan=recorded.plan(at, moon=state in MOON))


def test_the_table_has_every_recorded_state() -> None:
    """A state that is recorded later has to be diagnosed, too."""
    assert sorted(TABLE) == STATES


@pytest.mark.parametrize("state", STATES)
def test_a_recorded_state(state: str) -> None:
    """The first diagnosis names the cause and the cure; no state has two faults."""
    _, name, what, cure = TABLE[state]
    first, *others = diagnosed(state)
    assert (first.name, first.cure) == (name, cure)
    assert what in first.what
    assert first.state == {"well": "ok", "shadowed": "warning"}.get(name, "fault")
    assert all(other.state == "warning" for other in others)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("interface", ["zt0", "zt*"])
def test_the_network_is_found_without_its_id(state: str, interface: str) -> None:
    """By the interface or the routes, the diagnosis is the same when network.yaml says nothing."""
    if not state.startswith("network-not-found"):
        at = recorded.overlay(interface, lan_interface="lan0")
        assert diagnosed(state, at)[0].name == TABLE[state][1]


def test_a_pattern_that_matches_dead_networks_too() -> None:
    """The interface to name is the one that has the zone's route; the dead networks are named with their cure."""
    first, *others = diagnosed("network-not-found.relay", recorded.overlay("zt*"), **BOTH_SILENT)
    assert (first.name, first.cure) == (
        "interface-ambiguous",
        "write `interface: zt0` for zone office in policies/, then: relayctl reload",
    )
    assert [other.name for other in others] == ["network-not-found", "controller-silent"]
    assert others[0].cure == "zerotier-cli leave cf33a232e100dead"


def test_a_plain_packet_that_would_leave_otherwise_is_a_warning() -> None:
    """With the overlay gone other programs' packets leave by the default route, unless the fallback route is there."""
    leaking = {state for state in STATES if any(found.name == "leaking" for found in diagnosed(state))}
    assert leaking == {
        "interface-down.relay",
        "managed-routes-disallowed.relay",
        "restarted-route-missing.relay",
        "zerotier-stopped.relay",
    }


@pytest.mark.parametrize(
    ("status", "name", "cure"),
    [
        ("REQUESTING_CONFIGURATION", "controller-silent", "zerotier-cli leave cf33a232e100ab01"),
        ("PORT_ERROR", "port-error", "modprobe tun && systemctl restart zerotier-one"),
        ("CLIENT_TOO_OLD", "client-too-old", "upgrade the package zerotier-one"),
        ("AUTHENTICATION_REQUIRED", "network-status", "zerotier-cli listnetworks"),
        ("ACCESS_DENIED", "access-denied", "authorized"),
    ],
)
def test_every_status_of_a_network(status: str, name: str, cure: str) -> None:
    """What ZeroTier can say of a network that is not OK has a cure; while packets still pass it is a warning."""
    at = recorded.overlay()
    seen = recorded.observation("healthy.relay", at, **BOTH_SILENT)
    assert seen.zerotier is not None
    view = replace(seen.zerotier, networks=(replace(seen.zerotier.networks[0], status=status),))
    (first,) = diagnose(replace(seen, zerotier=view), at)
    assert (first.state, first.name) == ("fault", name)
    assert cure in first.cure
    passing = replace(recorded.observation("healthy.relay", at), zerotier=view)
    assert [(one.state, one.name) for one in diagnose(passing, at)] == [("warning", name)]


@pytest.mark.parametrize("standing", [standing for standing in ApiStatus if standing is not ApiStatus.ANSWERS])
def test_a_zone_that_works_needs_no_zerotier(standing: ApiStatus) -> None:
    """An interface that is only named like ZeroTier's is well when its packets pass; broken, the service is named."""
    at = recorded.overlay()
    seen = replace(recorded.observation("healthy.relay", at), zerotier=NodeView(standing))
    assert diagnose(seen, at)[0].state == "ok"
    broken = replace(
        seen, far=None, target=None, interface="", interfaces=(), guard=RouteCheck(Obstacle.INTERFACE_MISSING, "none")
    )
    (first,) = diagnose(broken, at)
    assert first.state == "fault"
    assert "zerotier-one" in first.cure


def healthy(**changed: Any) -> Observation:
    return replace(recorded.observation("healthy.relay", recorded.overlay(), **changed.pop("echoes", {})), **changed)


def test_without_zerotiers_view_the_kernel_and_the_echo_still_tell() -> None:
    """Not root: no peers, no networks; the gateway that is silent is named all the same."""
    seen = healthy(zerotier=NodeView(ApiStatus.TOKEN_UNREADABLE, online=True), echoes=BOTH_SILENT)
    assert diagnose(seen, recorded.overlay())[0].name == "gateway-silent"
    seen = replace(seen, zerotier=NodeView(ApiStatus.TOKEN_UNREADABLE, online=False))
    assert diagnose(seen, recorded.overlay())[0].name == "node-offline"


def test_a_neighbour_that_failed_is_silence_without_an_echo() -> None:
    """Where no ping may be sent, the kernel's own table is the witness."""
    silent = Reachability(GATEWAY, neighbour=Neighbour(GATEWAY, 3, NeighbourState.FAILED))
    assert diagnose(healthy(far=silent, target=None, zerotier=None), recorded.overlay())[0].name == "gateway-silent"
    unknown = Reachability(GATEWAY, neighbour=Neighbour(GATEWAY, 3, NeighbourState.STALE))
    assert diagnose(healthy(far=unknown, target=None), recorded.overlay())[0].name == "well"


def test_a_gateway_that_drops_pings_is_well_when_the_target_answers() -> None:
    """What comes back from behind it has passed it; a port that refuses is an answer, too."""
    assert diagnose(healthy(echoes={"far": SILENT}), recorded.overlay())[0].state == "ok"
    for door, state in (
        (PortState.OPEN, "ok"),
        (PortState.REFUSED, "ok"),
        (PortState.SILENT, "fault"),
        (PortState.UNREACHABLE, "fault"),
    ):
        target = Reachability(TARGET, "remote", SILENT, None, 22, door)
        assert diagnose(healthy(target=target), recorded.overlay())[0].state == state, door


@pytest.mark.parametrize(
    ("echo", "name", "cure"),
    [
        (Echo(EchoKind.UNREACHABLE, GATEWAY, 0.01, 13, detail="prohibited by a packet filter"), "target-filtered",
         "relayctl net plan --machine gateway --zone office"),
        (Echo(EchoKind.UNREACHABLE, GATEWAY, 0.01, 0, detail="network unreachable"), "gateway-lan-down",
         "on the gateway: ip link set LAN up"),
        (Echo(EchoKind.UNREACHABLE, GATEWAY, 3.0, 1, detail="host unreachable"), "target-down",
         "ping -c 3 192.168.1.201"),
        (Echo(), "target-silent", "relayctl net verify office"),
        (Echo(EchoKind.TIME_EXCEEDED, GATEWAY, 0.01), "target-silent", "relayctl net verify office"),
    ],
)  # fmt: skip
def test_what_the_gateway_says_of_a_target(echo: Echo, name: str, cure: str) -> None:
    """Filtered, no network, no host and silence are distinguished by the gateway's ICMP."""
    first = diagnose(healthy(echoes={"target": echo}), recorded.overlay())[0]
    assert first.name == name
    assert cure in first.cure


@pytest.mark.parametrize(
    ("guard", "changes", "cure"),
    [
        (RouteCheck(Obstacle.ROUTE_MISSING, "no route", "zt0", 3), {"managed": False}, "relayctl net apply"),
        (RouteCheck(Obstacle.OTHER_GATEWAY, "192.168.1.201 goes by 172.18.0.77", "zt0", 3), {},
         "ip route replace 192.168.1.0/24 via 172.18.0.200 dev zt0 metric 5000 && "
         "ip route del 192.168.1.0/24 metric 10"),
        (RouteCheck(Obstacle.NOT_UNICAST, "a route forbids it", "zt0", 3), {},
         "ip route show table all match 192.168.1.201: remove the one that forbids it, then: "
         "ip route replace 192.168.1.0/24 via 172.18.0.200 dev zt0 metric 5000"),
        (RouteCheck(Obstacle.KERNEL_SILENT, "no answer", "zt0", 3), {}, "relayctl net status as root, on Linux"),
    ],
)  # fmt: skip
def test_what_the_kernel_says(guard: RouteCheck, changes: dict[str, Any], cure: str) -> None:
    """Each obstacle of the guard has its own cure."""
    rival = Route(ip_network("192.168.1.0/24"), ip_address("172.18.0.77"), "zt0", 10)
    seen = healthy(guard=guard, target=None, plain=None)
    first = diagnose(replace(seen, routes=(*seen.routes, rival)), recorded.overlay(**changes))[0]
    assert (first.name, first.cure) == (guard.reason, cure)


@pytest.mark.parametrize("reason", [Obstacle.OTHER_GATEWAY, Obstacle.ROUTE_MISSING])
def test_what_comes_before_the_main_table_is_looked_for_there(reason: Obstacle) -> None:
    """To set a route again that is right already would heal nothing."""
    first = diagnose(healthy(guard=RouteCheck(reason, "x", "zt0", 3), target=None), recorded.overlay())[0]
    assert (first.name, first.cure) == (
        reason,
        "ip -4 rule show; ip -4 route show table all match 192.168.1.201  # remove what leads elsewhere or forbids it",
    )


def test_a_packet_filter_of_our_own_is_no_target_that_is_off() -> None:
    """A probe that could not be sent is no evidence that a host is missing."""
    own = Echo(EchoKind.UNREACHABLE, code=errno.EPERM, detail="a packet filter here forbids it")
    for at in ({"far": REPLY, "target": own}, {"far": own, "target": own}):
        seen = recorded.observation("healthy.relay", recorded.overlay(), **at)
        assert diagnose(seen, recorded.overlay())[0].name == "filtered-here"


def test_a_route_that_the_controller_does_not_send() -> None:
    """Then the panel is the place, and the command is only for the time until it is done there."""
    seen = healthy(guard=RouteCheck(Obstacle.ROUTE_MISSING, "no route", "zt0", 3), plain=None, routes=())
    assert seen.zerotier is not None
    view = replace(seen.zerotier, networks=(replace(seen.zerotier.networks[0], routes=()),))
    first = diagnose(replace(seen, zerotier=view), recorded.overlay(network_id=NETWORK))[0]
    assert first.cure.startswith("in the web panel of network cf33a232e100ab01 (its controller is this node): add the ")
    assert "192.168.1.0/24 via 172.18.0.200; until then: ip route replace" in first.cure


@pytest.mark.parametrize(
    ("interface", "cure"),
    [
        ("zt*", "systemctl start zerotier-one"),
        ("wg0", "systemctl start wg-quick@wg0"),
        ("tailscale0", "systemctl start tailscaled"),
        ("eth7", "ip -br link: name one of these in the zone's `interface`, then: relayctl reload"),
    ],
)
def test_a_missing_interface_is_brought_up_by_its_own_service(interface: str, cure: str) -> None:
    """ZeroTier, WireGuard and Tailscale have theirs; another interface is a matter of the policy."""
    at = recorded.overlay(interface)
    seen = Observation(RouteCheck(Obstacle.INTERFACE_MISSING, f"no {interface}"), TARGET)
    assert diagnose(seen, at)[0].cure == cure


def test_an_interface_named_by_a_stranger_is_quoted() -> None:
    """A command to be copied holds a name only as one word of the shell."""
    at = recorded.overlay("wg;reboot")
    cures = [
        diagnose(Observation(RouteCheck(reason, "x", name), TARGET), at)[0].cure
        for reason, name in ((Obstacle.INTERFACE_MISSING, ""), (Obstacle.INTERFACE_DOWN, "wg;reboot"),
                             (Obstacle.ROUTE_MISSING, "wg;reboot"))
    ]  # fmt: skip
    assert all("'wg;reboot'" in cure for cure in cures), cures


def test_rp_filter_makes_a_shadow_a_fault() -> None:
    """Strict filtering drops the answers that come by the zone's interface; then the target's silence is explained."""
    at = recorded.overlay()
    seen = recorded.observation("own-nic-same-prefix.relay", at, target=SILENT, reverse_path=1)
    found = diagnose(seen, at)
    assert [(one.state, one.name) for one in found if one.name == "shadowed"] == [("fault", "shadowed")]
    assert found[0].name == "shadowed"
    assert "rp_filter=1 drops the answers by zt0" in found[0].what


def test_a_relayed_path_and_a_missing_moon_are_warnings() -> None:
    """They make it slow, not wrong."""
    at = recorded.overlay()
    seen = recorded.observation("healthy.relay", at)
    assert seen.zerotier is not None
    peer = replace(seen.zerotier.peers[0], paths=())
    seen = replace(seen, zerotier=replace(seen.zerotier, peers=(peer,)))
    found = diagnose(seen, at, plan=recorded.plan(at, moon=True))
    assert [(one.state, one.name) for one in found] == [("warning", "relayed"), ("warning", "moon-missing")]
    assert "UDP port 9993" in found[0].cure


def test_the_gateway_knows_its_own_faults() -> None:
    """No overlay interface, not the address that the relay routes by, no LAN, not forwarding."""
    at = recorded.overlay(lan_interface="lan0")
    seen = recorded.observation("healthy.gateway", at)

    def first(**changed: Any) -> Diagnosis:
        return diagnose(replace(seen, **changed), at, role=Role.GATEWAY)[0]

    assert first(interface="").name == "interface-missing"
    wrong = tuple(replace(link, addresses=()) if link.name == "zt0" else link for link in seen.interfaces)
    assert (first(interfaces=wrong).name, "172.18.0.200" in first(interfaces=wrong).cure) == ("address-missing", True)
    assert first(forwarding=False).cure == "sysctl -w net.ipv4.ip_forward=1"
    down = tuple(replace(link, up=False) if link.name == "zt0" else link for link in seen.interfaces)
    assert first(interfaces=down).cure == "ip link set zt0 up"
    none = tuple(link for link in seen.interfaces if link.name != "lan0")
    assert first(interfaces=none).name == "lan-missing"


def test_a_zone_without_gateway_or_target() -> None:
    """On-link, with no host named: what the guard says is all there is."""
    at = Overlay(Zone("here", (ip_network("127.0.0.0/8"),), "lo"))
    (found,) = diagnose(Observation(RouteCheck(None, "", "lo", 1), ip_address("127.0.0.1"), interface="lo"), at)
    assert (found.state, found.what) == ("ok", "127.0.0.1 goes by lo")


REACHES = st.none() | st.builds(
    Reachability,
    st.just(GATEWAY),
    echo=st.none() | st.builds(Echo, st.sampled_from(EchoKind), st.none() | st.just(GATEWAY), code=st.integers(0, 15)),
    neighbour=st.none() | st.builds(Neighbour, st.just(GATEWAY), st.just(3), st.sampled_from(NeighbourState)),
    port_state=st.sampled_from(PortState),
)


CHANGES = st.fixed_dictionaries(
    {
        "guard": st.builds(RouteCheck, st.none() | st.sampled_from(Obstacle), st.just("x"), st.just("zt0"), st.just(3)),
        "far": REACHES,
        "target": REACHES,
        "plain": st.none() | st.just(RouteLookup(ip_network("0.0.0.0/0"), "eth0", None)),
        "reverse_path": st.sampled_from([None, 0, 1, 2]),
    }
)
ZONES = [recorded.overlay(), recorded.overlay("zt*", NETWORK), recorded.overlay("wg?", managed=False)]


@given(st.sampled_from(STATES), CHANGES, st.sampled_from(Role), st.sampled_from(ZONES), st.booleans())
def test_every_observation_has_a_diagnosis(
    state: str, changes: dict[str, Any], role: Role, at: Overlay, moon: bool
) -> None:
    """Whatever is seen: at most one fault and it is first, each with a cure, and nothing beside a well zone."""
    seen = replace(recorded.observation(state, recorded.overlay()), **changes)
    found = diagnose(seen, at, role=role, plan=NetworkPlan(moon=moon))
    order = [{"fault": 0, "warning": 1, "ok": 2}[one.state] for one in found]
    assert found
    assert order == sorted(order)
    assert order.count(0) <= 1
    assert all(one.what and (one.cure or one.state == "ok") for one in found)
    assert "ok" not in [one.state for one in found] or len(found) == 1


def test_an_interface_is_known_by_name() -> None:
    """The observation finds its links by name, and none by a name that is not there."""
    seen = Observation(RouteCheck(), TARGET, (Interface("zt0", 3, True, (), False),))
    assert seen.link("zt0") is not None
    assert seen.link("") is None

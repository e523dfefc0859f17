"""`relayctl net verify` in the lab: whatever link of the way is broken, that line says so and names the cure.

What the overlay's own service says is recorded from a real one, as none runs here.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from relay.core.network_plan import NetworkPlan, Overlay
from relay.core.policy.model import Zone
from relay.net.plan.relay_host import relay_machine
from tests.lab.lab import Lab
from tests.lab.world import Machine

pytestmark = pytest.mark.system

ZONE = Zone("office", (ip_network("192.168.1.0/24"),), "zt0", ip_address("172.18.0.200"))
ROOT = Path(__file__).parents[2]
SCRIPT = "relayctl net plan --machine gateway --zone office"
APPLY = "sudo relayctl net apply"
# the walk that the command does, less patient, and with a recorded answer of ZeroTier ("": it tells root only)
WALK = """
import json, os, sys
from dataclasses import replace
from pathlib import Path
from relay.cli.net import verify, zones
from relay.net.diagnose import path_check; from relay.net.zerotier import node_view
from relay.net.diagnose.zone_probe import ProbeTimeouts
from relay.site.locate import Site
from tests.net import recorded
places, state, who = json.loads(sys.argv[1])
questions = verify.path_requests(zones.read_zones(Site(Path("/etc/relay"), Path("/var/lib/relay"))), tuple(places))
if who:
    os.setgroups([]), os.setgid(who), os.setuid(who)
view = node_view.NodeView(node_view.ApiStatus.TOKEN_UNREADABLE)
if state:
    view = node_view.parse_answers(recorded.answers(state))
timeouts = ProbeTimeouts(echo=0.2, tries=2, arp=0.8, port=0.8)
legs = [leg for one in questions for leg in path_check.path_legs(one, timeouts=timeouts, node=lambda: view)]
print(json.dumps([[leg.name, leg.state, leg.what, leg.cure] for leg in legs]))
"""
Leg = tuple[str, str, str, str]


def path_legs(lab: Lab, *places: str, state: str = "", who: int = 0) -> list[Leg]:
    """The legs of the walk from the lab's relay: (name, state, what, cure)."""
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{WALK}"
    said = lab.relay.run(sys.executable, "-P", "-c", script, json.dumps([places or ["remote"], state, who]))
    legs: list[Leg] = [tuple(leg) for leg in json.loads(said)]
    return legs


@contextmanager
def rules(machine: Machine, *lines: str) -> Iterator[None]:
    """A machine with more nft rules, in a table of their own."""
    machine.nft("table inet verify {\n" + "\n".join(lines) + "\n}\n")
    try:
        yield
    finally:
        machine.run("nft", "delete", "table", "inet", "verify")


@contextmanager
def applied(lab: Lab, *, guard: bool = True, fallback: bool = True) -> Iterator[None]:
    """What `net apply` makes of the relay's kernel: the fallback routes, and the rules."""
    machine = relay_machine(NetworkPlan((Overlay(ZONE),)))
    rules = next(file.text for file in machine.files if file.path == machine.kernel.rules)
    if guard:
        lab.relay.nft(rules)
    if fallback:
        lab.relay.ip("route add unreachable 192.168.1.0/24 metric 4294967294 proto 114")
    try:
        yield
    finally:
        if guard:
            lab.relay.run("nft", "delete", "table", "inet", "relay_net")
        if fallback:
            lab.relay.ip("route delete unreachable 192.168.1.0/24 metric 4294967294")


def hooked(hook: str, *lines: str) -> str:
    """A chain before all others at a hook."""
    return f"chain {hook} {{\ntype filter hook {hook} priority -10;\n" + "\n".join(lines) + "\n}"


def states(legs: list[Leg]) -> dict[str, str]:
    """{name: state}."""
    return {name: state for name, state, _, _ in legs}


def ends(legs: list[Leg], name: str, what: str, cure: str) -> None:
    """The walk ended with this broken leg, and all before it were well."""
    last = legs[-1]
    assert last[:2] == (name, "fault"), legs
    assert what in last[2]
    assert cure in last[3]
    assert {state for _, state, _, _ in legs[:-1]} <= {"ok", "skipped"}, legs


def test_a_whole_way_is_told_with_its_figures(lab: Lab) -> None:
    """Every leg is there once, in order, and well, once the relay host's part of the plan is done."""
    with applied(lab):
        legs = path_legs(lab, state="healthy.relay")
    assert states(legs) == dict.fromkeys(
        ["overlay", "interface", "route", "rp_filter", "gateway", "forwarding", "return path", "target", "mtu"],
        "ok"
    ), legs  # fmt: skip
    said = {name: what for name, _, what, _ in legs}
    assert "ZeroTier node cf33a232e1 is online" in said["overlay"]
    assert said["interface"] == "zt0 is up with 172.18.0.10, MTU 2800"
    assert said["route"] == "192.168.1.201 goes via 172.18.0.200 by zt0"
    assert re.fullmatch(r"172\.18\.0\.200 answers a ping in [0-9.]+ ms", said["gateway"])
    assert re.fullmatch(r"192\.168\.1\.201:22 greets with SSH-2\.0-OpenSSH\S* .* after [0-9.]+ ms", said["target"])
    assert said["mtu"] == "2800 bytes to the gateway and 1500 bytes to remote in one piece; large TCP packets arrive"


def removed(lab: Lab) -> None:
    """ZeroTier is stopped."""
    lab.remove()


def set_down(lab: Lab) -> None:
    """zt0 is set down."""
    lab.set_down()


def disallowed(lab: Lab) -> None:
    """Managed addresses and routes are disallowed."""
    lab.disallow()


def unrouted(lab: Lab) -> None:
    """The route vanishes alone."""
    lab.unroute()


def rerouted(lab: Lab) -> None:
    """The route leads to another member."""
    lab.reroute()


def gateway_dead(lab: Lab) -> None:
    """The gateway's overlay is gone."""
    lab.gateway_dead()


def no_forwarding(lab: Lab) -> None:
    """The gateway's ip_forward is off."""
    lab.no_forwarding()


def target_down(lab: Lab) -> None:
    """The host is off."""
    lab.target_down()


def gateway_without_lan(lab: Lab) -> None:
    """The gateway's LAN cable is out, and its FORWARD chain lets nothing out elsewhere."""
    lab.gateway_without_lan()


@pytest.mark.parametrize(
    ("fault", "state", "name", "what", "cure"),
    [
        (removed, "", "interface", "interface-missing: there is no interface 'zt0'; packets of other programs for "
         "192.168.1.201 now leave by eth0", "zerotier"),
        (removed, "zerotier-stopped.relay", "interface", "ZeroTier is not running", "systemctl start zerotier-one"),
        (set_down, "", "interface", "interface-down: zt0 is set down", "ip link set zt0 up"),
        (disallowed, "", "interface", "zt0 has no IPv4 address", ""),
        (disallowed, "managed-routes-disallowed.relay", "interface", "(allowManaged=0)", "allowManaged=1"),
        (unrouted, "", "route", "route-missing", "ip route replace 192.168.1.0/24 via 172.18.0.200 dev zt0"),
        (rerouted, "", "route", "other-gateway: 192.168.1.201 goes by 172.18.0.66 on zt0", "ip route replace"),
        (gateway_dead, "", "gateway", "172.18.0.200 answers no ping", "zerotier"),
        (gateway_dead, "gateway-dead-180s.relay", "gateway", "172.18.0.200 answers no ping", "zerotier-one"),
        (no_forwarding, "", "forwarding", "ip_forward is off there", SCRIPT),
        (target_down, "", "return path", "the gateway finds no host at 192.168.1.201", "is remote on?"),
        (gateway_without_lan, "", "return path", "nothing comes back from 192.168.1.201", SCRIPT),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)  # fmt: skip
def test_the_walk_ends_at_the_broken_link(  # noqa: PLR0917 - as the table has them
    lab: Lab, fault: Callable[[Lab], None], state: str, name: str, what: str, cure: str
) -> None:
    """Each fault of the lab is found where it is, and what the overlay knows of it is said as well."""
    fault(lab)
    ends(path_legs(lab, state=state), name, what, cure)
    assert lab.seen() == {}


def test_a_gateway_without_masquerade_is_named(lab: Lab) -> None:
    """Packets arrive, and their answers have no way back: forwarding is well, the return path is not."""
    lab.gateway.run("nft", "flush", "chain", "inet", "lab", "out")
    try:
        ends(path_legs(lab), "return path", "it has no masquerade", SCRIPT)
    finally:
        lab.gateway.nft('add rule inet lab out iifname "zt0" oifname "eth0" masquerade\n')


@pytest.mark.parametrize(
    ("chain", "what"),
    [
        (hooked("forward", "ct state new drop"), "or its packet filter"),
        (hooked("forward", "reject with icmpx type admin-prohibited"), "a packet filter lets nothing through"),
    ],
    ids=["drops", "rejects"],
)
def test_a_gateways_packet_filter_is_named(lab: Lab, chain: str, what: str) -> None:
    """One that rejects says so itself; one that drops is as silent as a missing masquerade."""
    with rules(lab.gateway, chain):
        ends(path_legs(lab), "return path", what, SCRIPT)


@pytest.mark.parametrize(
    ("rule", "what", "cure"),
    [
        ("tcp dport 22 drop", "192.168.1.201:22 is silent, though 192.168.1.201 answers", "ufw allow 22/tcp"),
        ("tcp dport 22 reject with icmpx type admin-prohibited", "a packet filter rejects", "ufw allow 22/tcp"),
        ("tcp dport 22 reject with tcp reset", "no SSH server listens there", "systemctl enable --now ssh"),
        ("ip protocol icmp drop\ntcp dport 22 reject with tcp reset", "no SSH server listens there", "systemctl"),
    ],
)
def test_a_hosts_own_packet_filter_is_told_from_its_absence(lab: Lab, rule: str, what: str, cure: str) -> None:
    """The host answers something: so the way is whole, and the fault is at its port."""
    with rules(lab.remote, hooked("input", rule)):
        ends(path_legs(lab), "target", what, cure)


def test_a_host_that_answers_no_ping_is_well(lab: Lab) -> None:
    """Many hosts drop pings: their greeting is enough."""
    with rules(lab.remote, hooked("input", "ip protocol icmp drop")):
        legs = path_legs(lab)
    assert ("return path", "ok", "192.168.1.201 answers by TCP, though no ping", "") in legs
    assert states(legs)["target"] == "ok"


def test_a_gateway_that_answers_no_ping_is_well(lab: Lab) -> None:
    """Neither an echo nor a word about spent packets comes from it, but the host behind it greets."""
    with rules(lab.gateway, hooked("input", "ip protocol icmp drop"), hooked("output", "ip protocol icmp drop")):
        found = states(path_legs(lab))
    assert {name: found[name] for name in ("gateway", "forwarding", "target", "mtu")} == dict.fromkeys(
        ("gateway", "forwarding", "target", "mtu"), "ok"
    )


@pytest.mark.parametrize(
    ("place", "what"),
    [("192.168.1.201:7", "is open, but does not greet"), ("remote:24", "192.168.1.201:24 refuses")],
)
def test_another_port_may_be_asked(lab: Lab, place: str, what: str) -> None:
    """An address or a name with a port: a port that sends no banner, and a closed one."""
    ends(path_legs(lab, place), "target", what, "on remote")


def test_packets_that_vanish_for_their_size_are_a_fault(lab: Lab) -> None:
    """A hole that eats large packets and says nothing: pings and the greeting pass, large TCP packets do not."""
    with rules(lab.gateway, hooked("forward", 'iifname "zt0" meta length > 1000 drop')):
        legs = path_legs(lab)
    assert ("return path", "ok") in [leg[:2] for leg in legs]
    ends(legs, "mtu", "bytes of large TCP packets never reached 192.168.1.201", "mtu 1280")


def test_a_smaller_link_on_the_way_is_measured(lab: Lab) -> None:
    """A router that says what passes is believed."""
    lab.gateway.ip("link set eth0 mtu 1400")
    try:
        said = {name: (state, what) for name, state, what, _ in path_legs(lab)}
    finally:
        lab.gateway.ip("link set eth0 mtu 1500")
    assert said["mtu"][0] == "ok"
    assert "2800 bytes to the gateway and 1400 bytes to remote" in said["mtu"][1]


GUARD = """
import json
from pathlib import Path
from relay.cli.net import zones
from relay.net.diagnose import guard_check
from relay.site.locate import Site
legs = guard_check.check_guard(zones.read_zones(Site(Path("/etc/relay"), Path("/var/lib/relay"))).plan)
print(json.dumps([[leg.name, leg.state, leg.what, leg.cure] for leg in legs]))
"""


def guard(lab: Lab) -> list[Leg]:
    """The legs about the relay's own guard: (name, state, what, cure)."""
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{GUARD}"
    legs: list[Leg] = [tuple(leg) for leg in json.loads(lab.relay.run(sys.executable, "-P", "-c", script))]
    return legs


def test_each_missing_part_of_the_guard_is_a_fault_with_its_cure(lab: Lab) -> None:
    """The nft table and the unreachable route are missed each for itself, and no more once they are loaded."""
    table = ("guard", "fault", "nft table relay_net is not loaded: packets for office may leave by another interface",
             APPLY)  # fmt: skip
    route = ("guard", "fault", "the route `unreachable 192.168.1.0/24` is missing: packets for it may leave by another "
             "interface", APPLY)  # fmt: skip
    assert [leg for leg in guard(lab) if leg[1] == "fault"] == [table, route]
    with applied(lab, guard=False):
        assert [leg for leg in guard(lab) if leg[1] == "fault"] == [table]
    with applied(lab, fallback=False):
        assert [leg for leg in guard(lab) if leg[1] == "fault"] == [route]
    with applied(lab):
        assert [leg for leg in guard(lab) if leg[1] == "fault"] == []
        lab.relay.nft("flush chain inet relay_net guard\n")
        assert [leg[2] for leg in guard(lab) if leg[1] == "fault"] == [
            "nft table relay_net is not as planned: packets for office may leave by another interface"
        ]


def test_strict_rp_filter_under_an_own_nic_is_a_fault(lab: Lab) -> None:
    """With a NIC in the same prefix and rp_filter=1 the kernel drops the answers that come by the zone's interface."""
    lab.own_nic()
    lab.relay.sysctl(ipv4__conf__all__rp_filter=1, ipv4__conf__zt0__rp_filter=1)
    try:
        ends(
            path_legs(lab),
            "rp_filter",
            "rp_filter=1 drops the answers that come by zt0",
            "sysctl -w net/ipv4/conf/zt0/rp_filter=2",
        )
    finally:
        lab.relay.sysctl(ipv4__conf__all__rp_filter=2, ipv4__conf__zt0__rp_filter=0)


def test_the_way_is_checked_without_root_too(lab: Lab) -> None:
    """The whole path is checked without root too, where the kernel lets that user send ICMP."""
    if lab.world.rootless:
        return
    lab.relay.run("sysctl", "-qw", "net.ipv4.ping_group_range=0 2147483647")
    try:
        found = states(path_legs(lab, who=65534))
    finally:
        lab.relay.run("sysctl", "-qw", "net.ipv4.ping_group_range=1 0")
    assert (found["gateway"], found["target"]) == ("ok", "ok")


def test_the_command_says_it_to_people_and_programs(lab: Lab) -> None:
    """Lines with the cure below the broken one, exit status 1; JSON with figures; a place that is not there."""
    said = lab.relay.relayctl("net", "verify", status=1)
    assert said.startswith("office: 192.168.1.0/24 via 172.18.0.200 by zt0\n")
    assert re.search(r"^this machine\n  fault    guard .*\n +-> sudo relayctl net apply$", said, re.MULTILINE), said
    rows = json.loads(lab.relay.relayctl("net", "verify", "--json", "remote", "recorder", status=1))
    assert [row["host"] for row in rows if row["name"] == "target"] == ["remote", "recorder"]
    assert {row["zone"] for row in rows if row["name"] != "guard"} == {"office"}
    figures = {row["name"]: row["figures"] for row in rows}
    assert figures["interface"] == {"mtu": 2800}
    assert figures["gateway"]["seconds"] < 1
    assert "did you mean remote" in lab.relay.relayctl("net", "verify", "remoto", status=2)
    assert "10.0.0.1 is in no zone" in lab.relay.relayctl("net", "verify", "10.0.0.1", status=2)

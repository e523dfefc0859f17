"""The share of the relay host."""

import json
from ipaddress import ip_network

import pytest

from relay.net.plan.machine import OWN
from relay.net.plan.relay_host import relay_machine
from relay.net.plan.render import render
from tests.lab.world import wait_for
from tests.net.plan.conftest import SHELLS, Box
from tests.net.plan.shares import LAPTOP, overlay, plan, plant, six

GUARD = """\
table inet relay_net {
	chain guard {
		oifname "lo" return
		ip daddr 192.168.1.0/24 oifname != "zt0" oifname != "zt1" reject with icmpx host-unreachable
		ip6 daddr fdaa::/64 oifname != "zt0" reject with icmpx host-unreachable
		oifname "zt0" ip daddr 192.168.1.0/24 rt ip nexthop != 172.18.0.200 reject with icmpx host-unreachable
		oifname "zt1" ip daddr 192.168.1.0/24 rt ip nexthop != 172.19.0.200 reject with icmpx host-unreachable
		oifname "zt0" ip6 daddr fdaa::/64 rt ip6 nexthop != fd18::200 reject with icmpx host-unreachable
	}

	chain output {
		type filter hook output priority filter; policy accept;
		jump guard
	}

	chain forward {
		type filter hook forward priority filter; policy accept;
		jump guard
		iifname "zt0" drop
		oifname "zt0" drop
		iifname "zt1" drop
		oifname "zt1" drop
	}

	chain input {
		type filter hook input priority filter; policy accept;
		iifname "zt0" icmp type redirect drop
		iifname "zt0" icmpv6 type nd-redirect drop
		iifname "zt1" icmp type redirect drop
		iifname "zt1" icmpv6 type nd-redirect drop
	}
}
"""
LAST = "metric 4294967294"


@pytest.mark.system
@pytest.mark.parametrize("shell", SHELLS)
def test_printed_script_runs_twice(box: Box, shell: tuple[str, ...]) -> None:
    """The script sets one rule per prefix and the fallback routes; again, it changes nothing; `down` takes all back."""
    _, held = box.printed(relay_machine(plan(overlay(), plant(), six())), *shell)
    assert held.rules == GUARD
    assert held.routes == (f"unreachable 192.168.1.0/24 {LAST}", f"unreachable fdaa::/64 {LAST}")
    assert held.forwarding == "00"
    box.machine.run(*shell, f"{OWN}/down")
    assert (box.rules(), box.routes()) == ("", ())
    box.machine.run(*shell, f"{OWN}/down")


@pytest.mark.system
def test_unmanaged_route_comes_with_its_interface(box: Box) -> None:
    """Where the controller sets no route, `up` sets it, and `watch` sets it again when the interface is recreated."""
    box.place(relay_machine(plan(overlay(managed=False), plant(managed=False))))
    said = box.machine.done(f"{OWN}/up").stderr
    assert "the zone office has no interface zt0 yet" in said
    assert box.routes() == (f"unreachable 192.168.1.0/24 {LAST}",)
    watch = box.machine.start(f"{OWN}/watch")
    both = (
        "192.168.1.0/24 via 172.18.0.200 dev zt0 metric 5001",
        "192.168.1.0/24 via 172.19.0.200 dev zt1 metric 5002",
        f"unreachable 192.168.1.0/24 {LAST}",
    )
    box.link("zt0", "172.18.0.10/24")
    box.link("zt1", "172.19.0.10/24")
    wait_for(lambda: box.routes() == both, "no routes after the interfaces came")
    box.machine.ip("link del zt0")
    wait_for(lambda: box.routes() == both[1:], "the kernel takes the route with its interface")
    box.link("zt0", "172.18.0.10/24")
    wait_for(lambda: box.routes() == both, "no route after the interface came anew")
    box.machine.ip("link set zt1 down", "link set zt1 up")
    wait_for(lambda: box.routes() == both, "no route after the interface was down")
    box.machine.ip("route del unreachable 192.168.1.0/24")
    wait_for(lambda: box.routes() == both, "the fallback was taken away and stays away")
    watch.end()


@pytest.mark.system
def test_watch_heals_the_rules(box: Box) -> None:
    """Rules that another's `flush ruleset` took are there again within seconds, though nothing else changed."""
    box.link("zt0", "172.18.0.10/24")
    box.place(relay_machine(plan()))
    box.machine.run(f"{OWN}/up")
    watch = box.machine.start(f"{OWN}/watch")
    box.machine.run("nft", "flush", "ruleset")
    wait_for(box.rules, "the rules were not healed")
    watch.end()


@pytest.mark.system
@pytest.mark.parametrize("shell", SHELLS)
def test_routes_not_wished_any_more(box: Box, shell: tuple[str, ...]) -> None:
    """Routes of ours that a new plan does not have are taken away; others' stay, whatever their prefix."""
    box.link("zt0", "172.18.0.10/24", "fd18::10/64")
    box.machine.ip("route add 192.168.9.0/24 via 172.18.0.9", "route add unreachable 192.168.2.0/24 metric 5")
    wide = overlay("office", "192.168.1.0/24", "192.168.2.0/24", "192.168.3.7/32", managed=False)
    box.printed(relay_machine(plan(wide, six(managed=False))), *shell)
    assert len(box.routes()) == 8
    box.printed(relay_machine(plan(overlay(managed=False))), *shell)
    assert box.routes() == (
        "192.168.1.0/24 via 172.18.0.200 dev zt0 metric 5001",
        f"unreachable 192.168.1.0/24 {LAST}",
    )
    box.machine.run(*shell, f"{OWN}/down")
    kept = box.machine.run("ip", "route", "show", "proto", "boot")
    assert "192.168.9.0/24" in kept
    assert "unreachable 192.168.2.0/24" in kept


@pytest.mark.system
def test_strict_reverse_path(box: Box) -> None:
    """With one prefix in two zones, a strict rp_filter of their interfaces becomes a loose one, and back by `down`."""
    box.link("zt0", "172.18.0.10/24")
    box.link("zt1", "172.19.0.10/24")

    def filters() -> str:
        return box.machine.sh("cat /proc/sys/net/ipv4/conf/zt0/rp_filter /proc/sys/net/ipv4/conf/zt1/rp_filter")

    box.machine.sysctl(ipv4__conf__all__rp_filter=1)
    box.printed(relay_machine(plan()))
    assert "2" not in filters()
    box.printed(relay_machine(plan(overlay(), plant())))
    assert filters().split() == ["2", "2"]
    box.machine.run(f"{OWN}/down")
    assert "2" not in filters()


@pytest.mark.system
@pytest.mark.parametrize("shell", SHELLS)
def test_method_2(box: Box, shell: tuple[str, ...]) -> None:
    """Full routing forwards and masquerades the named members into the zone, and nothing else."""
    box.link("zt0", "172.18.0.10/24")
    _, held = box.printed(relay_machine(plan(overlay(members=(LAPTOP,))), method=2), *shell)
    assert held.forwarding == "10"
    lines = [line.strip() for line in held.rules.splitlines()]
    forward = lines[lines.index("chain forward {") :]
    assert forward[3:7] == [
        'iifname "zt0" oifname "zt0" ip saddr 172.18.0.11 ip daddr 192.168.1.0/24 ct state != invalid accept',
        'iifname "zt0" oifname "zt0" ip saddr 192.168.1.0/24 ip daddr 172.18.0.11 ct state established,related accept',
        'iifname "zt0" drop',
        'oifname "zt0" drop',
    ]
    assert 'oifname "zt0" ip saddr 172.18.0.11 ip daddr 192.168.1.0/24 masquerade' in lines
    assert 'oifname "zt0" icmp type redirect drop' in lines
    box.printed(relay_machine(plan(overlay(members=(LAPTOP,)))), *shell)
    assert "masquerade" not in box.rules()
    box.machine.run(*shell, f"{OWN}/down")
    assert box.held().forwarding == "00"


@pytest.mark.system
def test_method_2_beside_docker(box: Box) -> None:
    """Where others' rules drop what is forwarded, method 2 says what lets it through; method 1 forwards nothing."""
    box.machine.sh("iptables -P FORWARD DROP")
    said, _ = box.printed(relay_machine(plan(overlay(interface="zt*")), method=2))
    assert "iptables -I DOCKER-USER -i zt+ -o zt+ -j ACCEPT" in said
    said, _ = box.printed(relay_machine(plan()))
    assert "other rules" not in said


def test_method_2_says_its_risk() -> None:
    """Full routing is printed with what it costs."""
    assert any("no audit row" in warning for warning in relay_machine(plan(), method=2).warnings)
    assert not any("no audit row" in warning for warning in relay_machine(plan()).warnings)


def test_whole_overlay_without_members() -> None:
    """Without named members method 2 is for the overlay's addresses."""
    rules = relay_machine(plan(), method=2).files[0].text
    assert "ip saddr 172.18.0.0/24 ip daddr 192.168.1.0/24 masquerade" in rules


def test_zone_on_loopback() -> None:
    """A zone on lo needs nothing: no rule, no route."""
    demo = overlay("demo", "127.0.0.0/8", interface="lo", gateway="", network="", relay="")
    machine = relay_machine(plan(demo))
    assert "127.0.0.0/8" not in "".join(file.text for file in machine.files)
    assert machine.before == ()


@pytest.mark.system
def test_kernel_is_what_up_makes(box: Box) -> None:
    """What the plan says in values is what `up` makes: routes and settings, of both families and methods."""
    box.link("zt0", "172.18.0.10/24", "fd18::10/64")
    machine = relay_machine(plan(overlay(managed=False), six(managed=False)), method=2)
    _, held = box.printed(machine)
    shown = json.loads(box.machine.run("ip", "-j", "route", "show", "proto", "114"))
    shown += json.loads(box.machine.run("ip", "-6", "-j", "route", "show", "proto", "114"))
    found = {
        (ip_network(one["dst"]), one["metric"], one.get("gateway"), "" if "type" in one else one["dev"])
        for one in shown
    }
    wished = {
        (one.network, one.metric, str(one.gateway) if one.gateway else None, one.interface)
        for one in machine.kernel.routes
    }
    assert found == wished
    assert held.forwarding == "11"
    assert dict(machine.kernel.settings) == {"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"}


@pytest.mark.system
@pytest.mark.parametrize("shell", SHELLS)
def test_interfaces_called_alike(box: Box, shell: tuple[str, ...]) -> None:
    """A pattern with a wider form in the rules still means the one interface that the policy's pattern means."""
    box.link("zt10", "172.18.0.10/24")
    box.link("zt1", "172.19.0.10/24")
    box.printed(relay_machine(plan(overlay(interface="zt?0", managed=False))), *shell)
    assert box.routes()[0] == "192.168.1.0/24 via 172.18.0.200 dev zt10 metric 5001"
    assert 'oifname != "zt*"' in box.rules()
    assert "nexthop" not in box.rules()


def test_units_order() -> None:
    """The unit comes after ZeroTier and before the relay, and stopping it takes no guard away."""
    unit = next(file for file in relay_machine(plan()).files if file.path.endswith(".service")).text
    assert "zerotier-one.service" in next(line for line in unit.splitlines() if line.startswith("After="))
    assert "Before=relay.service" in unit
    assert f"ExecStartPre={OWN}/up" in unit
    assert "ExecStop" not in unit


def test_render_is_the_same_again() -> None:
    """The same plan prints the same text."""
    assert render(relay_machine(plan())) == render(relay_machine(plan()))

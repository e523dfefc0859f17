"""What passes a gateway that was set up by the printed script: tried with packets, for nft and iptables."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from relay.net.plan.gateway import gateway_machine
from tests.lab.world import Machine, World
from tests.net.plan.conftest import Box
from tests.net.plan.shares import overlay

pytestmark = pytest.mark.system
# whatever reaches a machine of the underlay for the LAN's addresses
COUNT = "table ip seen {{\nchain in {{\ntype filter hook {} priority -300\nip daddr 192.168.1.0/24 counter\n}}\n}}\n"


@dataclass(frozen=True, slots=True)
class Site:
    """The relay and another member on the overlay, the gateway, a LAN host, a container of the gateway, the world."""

    relay: Machine
    gateway: Machine
    lan: Machine
    container: Machine
    wan: Machine

    def reaches(self, source: str, target: str, machine: Machine | None = None) -> bool:
        """Whether an echo from `source` is answered."""
        words = ("busybox", "ping", "-c", "1", "-W", "1", "-I", source, target)
        return (machine or self.relay).done(*words).returncode == 0

    def leaked(self) -> bool:
        """Whether anything for the LAN arrived in the world."""
        return "packets 0 " not in self.wan.run("nft", "list", "table", "ip", "seen")


@pytest.fixture(params=["nft", "iptables"])
def site(request: pytest.FixtureRequest, world: World) -> Iterator[Site]:
    """Set up by the script, beside another's forwarding that was there before."""
    names = [f"{name}-{request.param}" for name in ("relay", "gateway", "lan", "container", "wan")]
    made = Site(*world.built(*names))
    gateway = made.gateway
    made.relay.cable("zt0", gateway, "zt0")
    gateway.cable("eth0", made.lan, "eth0")
    gateway.cable("br0", made.container, "eth0")
    gateway.cable("eth1", made.wan, "eth0")
    made.relay.ip(
        "address add 172.18.0.10/24 dev zt0",
        "address add 172.18.0.66/24 dev zt0",
        "route add 192.168.1.0/24 via 172.18.0.200",
        "route add 203.0.113.0/24 via 172.18.0.200",
        "route add 10.9.0.0/24 via 172.18.0.200",
    )
    gateway.ip(
        "address add 172.18.0.200/24 dev zt0",
        "address add 192.168.1.200/24 dev eth0",
        "address add 10.9.0.1/24 dev br0",
        "address add 203.0.113.2/24 dev eth1",
        "route add default via 203.0.113.1",
    )
    made.lan.ip("address add 192.168.1.201/24 dev eth0", "route add default via 192.168.1.200")
    made.container.ip("address add 10.9.0.2/24 dev eth0", "route add default via 10.9.0.1")
    made.wan.ip("address add 203.0.113.1/24 dev eth0", "route add 10.9.0.0/24 via 203.0.113.2")
    made.wan.ip("route add 172.18.0.0/24 via 203.0.113.2")
    made.wan.nft(COUNT.format("prerouting"))
    if request.param == "iptables":  # as Docker leaves it: everything is dropped but its own
        gateway.sh(
            "iptables -P FORWARD DROP; iptables -A FORWARD -i br0 -j ACCEPT; iptables -A FORWARD -o br0 -j ACCEPT"
        )
    Box(gateway).printed(gateway_machine(overlay(), firewall=request.param))
    yield made
    for machine in (made.relay, made.gateway, made.lan, made.container, made.wan):
        machine.close()


def test_who_passes(site: Site) -> None:
    """Only the relay reaches the LAN, masqueraded; nothing passes to other networks or out of the LAN."""
    site.lan.nft(
        "table ip seen {\nchain in {\ntype filter hook input priority 0\nip saddr 192.168.1.200 counter\n}\n}\n"
    )
    assert site.reaches("172.18.0.10", "192.168.1.201")
    assert "packets 0 " not in site.lan.run("nft", "list", "table", "ip", "seen")
    refused = [
        (site.relay, "172.18.0.66", "192.168.1.201"),  # another member of the overlay, into the LAN
        (site.relay, "172.18.0.10", "203.0.113.1"),  # the relay, into the world
        (site.relay, "172.18.0.10", "10.9.0.2"),  # the relay, to another network of the gateway
        (site.lan, "192.168.1.201", "172.18.0.10"),  # a LAN host, into the overlay
        (site.container, "10.9.0.2", "172.18.0.10"),  # a container, into the overlay
        (site.wan, "203.0.113.1", "172.18.0.10"),  # the world, into the overlay
    ]
    with ThreadPoolExecutor() as pool:  # each waits a second for nothing
        answers = pool.map(lambda way: site.reaches(way[1], way[2], way[0]), refused)
    assert [way for way, answer in zip(refused, answers, strict=True) if answer] == []


def test_only_tcp_and_echoes(site: Site) -> None:
    """Method 1 needs TCP and echoes: a datagram does not pass."""
    site.lan.nft("table ip seen {\nchain in {\ntype filter hook input priority 0\nmeta l4proto udp counter\n}\n}\n")
    site.relay.run("bash", "-c", "echo hello >/dev/udp/192.168.1.201/53")
    assert "packets 0 " in site.lan.run("nft", "list", "table", "ip", "seen")


def test_others_forwarding_goes_on(site: Site) -> None:
    """What the machine forwarded before, for containers of its own, it still forwards."""
    assert site.reaches("10.9.0.2", "203.0.113.1", site.container)


def test_no_leak_without_the_lan(site: Site) -> None:
    """With the LAN's link gone, nothing for it goes out by the gateway's default route: known flows, and new ones."""
    assert site.reaches("172.18.0.10", "192.168.1.201")
    for line in ("link set eth0 down", "link del eth0"):
        site.gateway.ip(line)
        assert not site.reaches("172.18.0.10", "192.168.1.201")
        assert not site.reaches("172.18.0.10", "192.168.1.77")
        assert not site.leaked()


def test_the_decoy_counts(site: Site) -> None:
    """The count above would have seen it: without our rules the gateway does send it there."""
    site.gateway.run("sh", "/etc/relay-net/down")
    site.gateway.sh("iptables -P FORWARD ACCEPT; echo 1 >/proc/sys/net/ipv4/ip_forward; ip link del eth0")
    site.reaches("172.18.0.10", "192.168.1.201")
    assert site.leaked()

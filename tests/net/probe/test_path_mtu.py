"""Path MTU over a gateway whose LAN has a smaller MTU, with real routers in namespaces."""

import json
import sys
from collections.abc import Iterator

import pytest

from tests.net.conftest import Namespace

pytestmark = pytest.mark.system

ASK = """
import json, sys
from ipaddress import ip_address
from relay.net.probe import path_mtu
address, largest, fallback = json.loads(sys.argv[1])
print(json.dumps([path_mtu.interface_mtu("zt0"),
                  path_mtu.path_mtu(ip_address(address), "zt0", largest, timeout=0.5, fallback=fallback)]))
"""


def ask(host: Namespace, address: str, largest: int, fallback: int = 0) -> tuple[int, int | None]:
    """(MTU of zt0, path MTU) inside."""
    own, size = json.loads(host.run(sys.executable, "-c", ASK, json.dumps([address, largest, fallback])))
    return own, size


@pytest.fixture
def gateway(relay_host: Namespace) -> Iterator[Namespace]:
    """A gateway behind the relay's zt0, with one host in a LAN of MTU 1300."""
    gateway, host = Namespace(), Namespace()
    try:
        relay_host.ip(f"link set far_zt0 netns {gateway.holder.pid}")
        gateway.ip("link add eth0 type veth peer name lan", f"link set lan netns {host.holder.pid}")
        gateway.ip(
            "link set far_zt0 up",
            "link set eth0 mtu 1300 up",
            "address add 172.18.0.200/24 dev far_zt0",
            "address add 192.168.1.200/24 dev eth0",
        )
        gateway.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        host.ip(
            "link set lan mtu 1300 up", "address add 192.168.1.201/24 dev lan", "route add default via 192.168.1.200"
        )
        yield gateway
    finally:
        gateway.close()
        host.close()


def test_the_size_that_a_router_reports_is_tried_and_believed(relay_host: Namespace, gateway: Namespace) -> None:
    """The gateway itself takes the interface's whole MTU; to the host behind it 1300 bytes pass."""
    assert ask(relay_host, "172.18.0.200", 1500) == (1500, 1500)
    assert ask(relay_host, "192.168.1.201", 1500) == (1500, 1300)


def test_a_router_that_drops_silently_leaves_the_size_unknown(relay_host: Namespace, gateway: Namespace) -> None:
    """Without a report there is no size, unless the fallback passes."""
    gateway.run(
        "nft",
        "table inet t { chain o { type filter hook output priority 0; icmp type destination-unreachable drop; }; }",
    )
    assert ask(relay_host, "192.168.1.201", 1500) == (1500, None)
    assert ask(relay_host, "192.168.1.201", 1500, fallback=1280) == (1500, 1280)

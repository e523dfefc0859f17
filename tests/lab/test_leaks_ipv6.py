"""The same for IPv6: a zone fdaa::/64 behind fd18::200 on zt6, and a default route to a provider with a decoy.

The kernel differs here: it never takes a bound socket's target for on-link. The rest of the table is test_leaks.py.
"""

from collections.abc import Callable, Iterator

import pytest

from tests.lab.lab import Lab
from tests.lab.network import MTU

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("lab-leaks-ipv6")]  # they share a lab

POLICY = """\
zones:
  six: {networks: ["fdaa::/64"], interface: zt6, gateway: "fd18::200"}
hosts:
  remote6: {address: "fdaa::201", zone: six, user: ubuntu}
rules:
  - {name: alice reaches the office by IPv6, allow: [alice], to: [six], ports: [7, 22]}
"""
DECOY = """
table inet decoy6 {
  counter six {}
  chain seen {
    type filter hook prerouting priority raw;
    ip6 daddr fdaa::/64 counter name six
  }
}
"""


class Six:
    """The IPv6 part of the office, beside the lab's own."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        lab.relay.ip("address add fdee::10/64 dev eth0 nodad", "route add default via fdee::1")
        lab.provider.ip("address add fdee::1/64 dev to-relay nodad", "address add fdaa::201/128 dev lo nodad")
        lab.provider.nft(DECOY)
        lab.gateway.sysctl(ipv6__conf__all__forwarding=1)
        lab.gateway.nft('add rule inet lab forward iifname "zt6" oifname "eth0" accept')
        lab.gateway.ip("address add fdaa::200/64 dev eth0 nodad")
        lab.remote.ip("address add fdaa::201/64 dev eth0 nodad", "route add default via fdaa::200")
        self.heal()
        lab.relay.write("/etc/relay/policies/six.yaml", POLICY, 0o640)
        lab.relay.relayctl("reload")

    def heal(self) -> None:
        """The overlay recreated, with its route."""
        lab = self.lab
        lab.relay.done("ip", "link", "delete", "zt6")
        lab.relay.cable("zt6", lab.gateway, "zt6", MTU)
        lab.gateway.ip("address add fd18::200/64 dev zt6 nodad")
        lab.relay.ip(
            "address add fd18::10/64 dev zt6 nodad",
            "route add fdaa::/64 via fd18::200 dev zt6 metric 5000",
        )

    def seen(self) -> int:
        """Packets for fdaa::/64 at the provider."""
        rows = self.lab.provider.run("nft", "list", "counter", "inet", "decoy6", "six").split()
        return int(rows[rows.index("packets") + 1])


@pytest.fixture(scope="module")
def six(built: Lab) -> Six:
    """The zone `six`, in the policy."""
    return Six(built)


@pytest.fixture
def well(six: Six) -> Iterator[Six]:
    """The same, well before and after each test."""
    six.lab.forget()
    six.lab.provider.run("nft", "reset", "counters")
    yield six
    six.heal()


def remake(six: Six) -> None:
    """A new interface without the route."""
    six.heal()
    six.lab.relay.ip("route delete fdaa::/64 dev zt6")


FAULTS: list[tuple[Callable[[Six], None], set[str]]] = [
    (lambda six: six.lab.relay.ip("link delete zt6"), {"interface-missing"}),
    (lambda six: six.lab.relay.ip("link set zt6 down"), {"interface-down"}),
    (lambda six: six.lab.relay.ip("route delete fdaa::/64 dev zt6"), {"route-missing"}),
    (
        lambda six: six.lab.relay.ip("route replace fdaa::/64 via fd18::66 dev zt6 metric 5000"),
        {"other-gateway"},
    ),
    (remake, {"interface-missing", "interface-down", "interface-remade", "route-missing"}),
]


@pytest.mark.parametrize(("fault", "obstacles"), FAULTS, ids=["removed", "set down", "unrouted", "rerouted", "remade"])
def test_nothing_leaves_by_the_default_route(well: Six, fault: Callable[[Six], None], obstacles: set[str]) -> None:
    """Open forwards are cut within a second, new ones refused; nothing reaches the provider; well again by itself."""
    lab = well.lab
    with lab.session("remote6:7") as alice:
        with alice.open("remote6:7") as wire:
            assert wire.echoes()
            assert wire.cut(lambda: fault(well)) < 1.0
        alice.open("remote6:7").refused()
        row = lab.row("forward.closed", forward=alice.told("the network behind this relay is down"))
        assert row["reason"] == "overlay-down"
        assert row["obstacle"] in obstacles
        assert well.seen() == 0
        well.heal()
        with alice.open("remote6:7") as wire:
            assert wire.echoes()


def test_the_decoy_is_real(well: Six) -> None:
    """A socket that is not bound goes to the provider when zt6 is gone, and is counted."""
    well.lab.relay.ip("link delete zt6")
    well.lab.relay.done("bash", "-c", "exec 3<>/dev/tcp/fdaa::201/22")  # refused: the decoy listens on IPv4 only
    assert well.seen() > 0

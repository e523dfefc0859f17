"""What has come into a forward's way, from the guard's answer of the moment and the socket's own address."""

from ipaddress import ip_address, ip_network

import pytest

from relay.core.policy.model import Address, Zone
from relay.net.kernel import egress_path
from relay.net.kernel.egress_path import EgressFault, EgressPath
from relay.net.kernel.route_guard import Obstacle, RouteCheck

OFFICE = Zone("office", (ip_network("192.168.1.0/24"),), "zt*", ip_address("172.18.0.200"))
HERE = Zone("here", (ip_network("127.0.0.0/8"),), "lo")
TARGET, OURS = ip_address("192.168.1.201"), ip_address("172.18.0.10")
FOUND = RouteCheck(None, "", "zt0", 3)
WAY = EgressPath(OFFICE, TARGET, FOUND, OURS)


def owns(index: int, address: Address) -> bool:
    """zt0 is number 3 and has our address."""
    return (index, address) == (3, OURS)


@pytest.mark.parametrize("reason", [reason for reason in Obstacle if reason not in ("kernel-silent", "not-asked")])
def test_what_the_guard_refuses_is_the_obstacle(reason: Obstacle) -> None:
    """The guard's word and detail, whatever the rest says."""
    assert WAY.obstacle(RouteCheck(reason, "why", "zt0", 3), owns) == (reason, "why")


@pytest.mark.parametrize("reason", [Obstacle.KERNEL_SILENT, Obstacle.NOT_ASKED])
def test_a_kernel_that_cannot_be_asked_ends_nothing_that_is_open(reason: Obstacle) -> None:
    """The socket is bound, so it leaks nothing; new forwards are refused all the same."""
    assert WAY.obstacle(RouteCheck(reason, "out of memory", "zt0", 3), owns) is None


def test_the_same_way_is_good() -> None:
    """Same interface, same index, an address of it."""
    assert WAY.obstacle(FOUND, owns) is None


@pytest.mark.parametrize("now", [RouteCheck(None, "", "zt0", 4), RouteCheck(None, "", "zt1", 3)])
def test_another_interface_is_not_the_one_that_was_dialled_by(now: RouteCheck) -> None:
    """A socket belongs to the old index for ever; and a pattern may mean another interface by now."""
    found = WAY.obstacle(now, owns)
    assert found is not None
    assert found[0] is Obstacle.INTERFACE_REMADE


def test_a_source_that_is_not_the_interfaces_own_is_an_obstacle() -> None:
    """The address was taken away, or the kernel has given another interface's."""
    other = EgressPath(OFFICE, TARGET, FOUND, ip_address("198.51.100.10"))
    assert other.obstacle(FOUND, owns) == (Obstacle.SOURCE_ADDRESS, "198.51.100.10 is no address of zt0")
    assert EgressPath(OFFICE, TARGET, FOUND).obstacle(FOUND, owns) is None, "not connected yet"


def test_what_stays_on_this_machine_has_any_source() -> None:
    """Packets by lo leave by no interface."""
    found = RouteCheck(None, "", "lo", 1)
    assert EgressPath(HERE, ip_address("127.0.0.2"), found, ip_address("127.9.9.9")).obstacle(found, owns) is None


def test_a_failure_is_explained_only_where_it_is_not_clear() -> None:
    """A refused connection is not explained by the zone; silence is, when its interface is gone."""
    lost = Zone("lost", (ip_network("192.0.2.0/24"),), "nonesuch0")
    way = EgressPath(lost, ip_address("192.0.2.7"), RouteCheck(None, "", "nonesuch0", 3))
    assert egress_path.explain_failure(way, "target-refused", "x") == EgressFault("target-refused", "x")
    cause = egress_path.explain_failure(way, "target-silent", "no answer within 10 s")
    assert (cause.reason, cause.obstacle) == ("overlay-down", "interface-missing")
    assert cause.detail == "no answer within 10 s; there is no interface 'nonesuch0'"
    here = egress_path.check_path(HERE, ip_address("127.0.0.2"))
    assert egress_path.explain_failure(
        EgressPath(HERE, ip_address("127.0.0.2"), here), "target-silent", "y"
    ) == EgressFault("target-silent", "y")

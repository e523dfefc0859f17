"""Every obstacle of the route guard has its line and its command."""

from dataclasses import replace

import pytest

from relay.core.network_plan import NetworkPlan
from relay.net.diagnose.case import Case
from relay.net.diagnose.observation import Role
from relay.net.diagnose.route_rules import obstacle_fault
from relay.net.kernel.route_guard import Obstacle, RouteCheck
from tests.net import recorded

SET = "ip route replace 192.168.1.0/24 via 172.18.0.200 dev zt0 metric 5000"


def case(obstacle: Obstacle | None, *, managed: bool = True, routes: bool = False) -> Case:
    """The relay whose guard reports this obstacle; `routes`: the main table is as in the healthy state."""
    overlay = recorded.overlay(managed=managed)
    seen = recorded.observation("healthy.relay", overlay)
    check = RouteCheck(obstacle, "the detail", "zt0", 3)
    return Case(replace(seen, guard=check, routes=seen.routes if routes else ()), overlay, NetworkPlan(), Role.RELAY)


@pytest.mark.parametrize(
    ("obstacle", "what", "cure"),
    [
        (Obstacle.INTERFACE_MISSING, "the detail; there are ", "systemctl start zerotier-one"),
        (Obstacle.INTERFACE_AMBIGUOUS, "the detail", "write `interface: zt0` for zone office"),
        (Obstacle.INTERFACE_DOWN, "the detail", "ip link set zt0 up"),
        (Obstacle.ROUTE_MISSING, "ZeroTier sets it within 30 s", SET),
        (Obstacle.OTHER_GATEWAY, "the detail", SET),
        (Obstacle.REDIRECTED, "the detail", "relayctl net apply && ip -4 route flush cache"),
        (Obstacle.NOT_UNICAST, "the detail", "ip route show table all match 192.168.1.201"),
        (Obstacle.KERNEL_SILENT, "the detail", "relayctl net status as root, on Linux"),
    ],
)
def test_each_obstacle_has_its_cure(obstacle: Obstacle, what: str, cure: str) -> None:
    """The name is the obstacle's; the command is one for a shell."""
    found = obstacle_fault(case(obstacle))
    assert found is not None
    assert (found.state, found.name) == ("fault", obstacle.value)
    assert what in found.what
    assert found.cure.startswith(cure)


def test_no_obstacle_is_no_fault() -> None:
    """The guard would dial."""
    assert obstacle_fault(case(None)) is None


def test_a_route_that_the_relay_sets_itself_is_cured_by_apply() -> None:
    """With `route: relay` no controller sends it."""
    found = obstacle_fault(case(Obstacle.ROUTE_MISSING, managed=False))
    assert found is not None
    assert found.cure == "relayctl net apply"


def test_a_right_main_table_means_that_a_rule_overrules_it() -> None:
    """Setting the same route again would cure nothing, so the rules are shown."""
    found = obstacle_fault(case(Obstacle.ROUTE_MISSING, routes=True))
    assert found is not None
    assert "the main table is right" in found.what
    assert found.cure.startswith("ip -4 rule show")

"""Faults of the gateway itself, each one alone."""

from dataclasses import replace
from typing import Any

import pytest

from relay.core.network_plan import NetworkPlan
from relay.net.diagnose.case import Case, first
from relay.net.diagnose.gateway_rules import GATEWAY_RULES
from relay.net.diagnose.observation import Observation, Role
from tests.net import recorded

OVERLAY = recorded.overlay(lan_interface="lan0")
HEALTHY = recorded.observation("healthy.gateway", OVERLAY)


def without(name: str) -> Observation:
    """The healthy gateway without this interface."""
    return replace(HEALTHY, interfaces=tuple(link for link in HEALTHY.interfaces if link.name != name))


def changed(name: str, **values: Any) -> Observation:
    """The healthy gateway with this interface changed."""
    links = tuple(replace(link, **values) if link.name == name else link for link in HEALTHY.interfaces)
    return replace(HEALTHY, interfaces=links)


@pytest.mark.parametrize(
    ("seen", "name", "cure"),
    [
        (without("zt0"), "interface-missing", "systemctl start zerotier-one"),
        (changed("zt0", up=False), "interface-down", "ip link set zt0 up"),
        (changed("zt0", addresses=()), "address-missing", "give this member the address 172.18.0.200"),
        (without("lan0"), "lan-missing", "ip -br address"),
        (changed("lan0", up=False), "lan-down", "ip link set lan0 up"),
        (replace(HEALTHY, forwarding=False), "not-forwarding", "sysctl -w net.ipv4.ip_forward=1"),
    ],
)
def test_each_fault_is_found_alone(seen: Observation, name: str, cure: str) -> None:
    """One change of the healthy gateway, one fault, one cure."""
    found = first(GATEWAY_RULES, Case(seen, OVERLAY, NetworkPlan(), Role.GATEWAY))
    assert found is not None
    assert (found.state, found.name) == ("fault", name)
    assert cure in found.cure


def test_a_healthy_gateway_has_no_fault() -> None:
    """All rules pass, also where forwarding could not be read."""
    for seen in (HEALTHY, replace(HEALTHY, forwarding=None)):
        assert first(GATEWAY_RULES, Case(seen, OVERLAY, NetworkPlan(), Role.GATEWAY)) is None

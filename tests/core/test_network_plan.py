"""The values of network.yaml."""

from ipaddress import ip_network

from relay.core.network_plan import NetworkPlan, Overlay
from relay.core.policy.model import Zone


def test_a_zone_without_further_data_has_no_network_id_and_a_managed_route() -> None:
    """Such an overlay can be watched, and its controller is expected to distribute the route."""
    overlay = Overlay(Zone("office", (ip_network("192.168.1.0/24"),), "zt*"))
    assert (overlay.network_id, overlay.network, overlay.managed, overlay.members) == ("", None, True, ())


def test_an_empty_plan_names_no_machine() -> None:
    """The default plan has no overlay, no public address and no persons."""
    assert NetworkPlan() == NetworkPlan(overlays=(), public=None, moon=False, persons=())

"""Membership in the zone's ZeroTier network, compared with the plan."""

from dataclasses import replace

import pytest

from relay.core.network_plan import NetworkPlan, Overlay
from relay.net.diagnose import zerotier_join
from relay.net.diagnose.observation import Role
from relay.net.zerotier.node_view import ApiStatus, NodeView
from tests.net import recorded

OVERLAY = recorded.overlay(network_id=recorded.NETWORK)
SEEN = recorded.observation("healthy.relay", OVERLAY)


@pytest.mark.parametrize(
    ("status", "name", "cure"),
    [
        (ApiStatus.NOT_INSTALLED, "zerotier-not-installed", "install the package zerotier-one"),
        (ApiStatus.NOT_RUNNING, "zerotier-stopped", "systemctl start zerotier-one"),
        (ApiStatus.TOKEN_REFUSED, "token-refused", "systemctl restart zerotier-one"),
        (ApiStatus.SILENT, "zerotier-silent", "systemctl restart zerotier-one"),
        (ApiStatus.GARBLED, "zerotier-silent", "systemctl restart zerotier-one"),
    ],
)
def test_a_node_that_does_not_answer(status: ApiStatus, name: str, cure: str) -> None:
    """Each outcome of the API has its own fault and command."""
    seen = replace(SEEN, zerotier=NodeView(status))
    found = zerotier_join.trouble(seen, OVERLAY, NetworkPlan(), Role.RELAY)
    assert found is not None
    assert found[0] == name
    assert found[2].startswith(cure)


@pytest.mark.parametrize(
    ("status", "name"),
    [
        ("OK", ""),
        ("ACCESS_DENIED", "access-denied"),
        ("NOT_FOUND", "network-not-found"),
        ("REQUESTING_CONFIGURATION", "controller-silent"),
        ("PORT_ERROR", "port-error"),
        ("CLIENT_TOO_OLD", "client-too-old"),
        ("A NEW ONE", "network-status"),
    ],
)
def test_each_status_of_the_network(status: str, name: str) -> None:
    """What `zerotier-cli listnetworks` shows; a status of a later version is shown as it is."""
    assert SEEN.zerotier is not None
    networks = tuple(replace(joined, status=status) for joined in SEEN.zerotier.networks)
    seen = replace(SEEN, zerotier=replace(SEEN.zerotier, networks=networks))
    found = zerotier_join.trouble(seen, OVERLAY, NetworkPlan(), Role.RELAY)
    assert (found[0] if found is not None else "") == name


def test_the_interfaces_name_decides_without_a_network_id() -> None:
    """zt* is ZeroTier's; wg0 is not, and is brought up by its own tool."""
    assert zerotier_join.uses_zerotier(recorded.overlay("zt*"))
    other = Overlay(recorded.overlay("wg0").zone)
    assert not zerotier_join.uses_zerotier(other)
    assert zerotier_join.bring_up("wg0", other) == "systemctl start wg-quick@wg0"
    assert zerotier_join.bring_up("tailscale0", other) == "systemctl start tailscaled"

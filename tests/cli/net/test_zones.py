"""The zones of a site, and the host that stands for each."""

from ipaddress import ip_address
from pathlib import Path

import pytest

from relay.cli.net.zones import PlannedZones, read_zones
from relay.core.network_plan import NetworkPlan
from relay.core.policy.model import Host
from relay.errors import InputRejected, SiteInvalid
from relay.site.locate import Site
from tests.net import recorded

REMOTE = Host("remote", "office", ip_address("192.168.1.201"))
GATEWAY = Host("gateway", "office", ip_address("192.168.1.200"))
LAN_SIDE = Host("router", "office", ip_address("192.168.1.254"))


def test_a_host_behind_the_gateway_stands_for_its_zone() -> None:
    """The gateway answers without any LAN, so it stands for the zone only when there is no other host."""
    overlay = recorded.overlay(lan_address=ip_address("192.168.1.254"))
    zones = PlannedZones(NetworkPlan((overlay,)), (GATEWAY, LAN_SIDE, REMOTE))
    assert zones.host("office") == REMOTE
    assert PlannedZones(NetworkPlan((overlay,)), (GATEWAY,)).host("office") == GATEWAY
    assert zones.host("plant") is None


def test_an_unknown_zone_is_named_with_those_that_exist() -> None:
    """No name selects all zones."""
    zones = PlannedZones(NetworkPlan((recorded.overlay(),)), ())
    assert zones.overlays() == zones.overlays("office")
    with pytest.raises(InputRejected) as refused:
        zones.overlays("ofice")
    assert "office" in refused.value.hint


def test_faults_of_network_yaml_are_notes(site: Path) -> None:
    """The zones are still there; each fault is one line."""
    (site / "network.yaml").write_text("overlays:\n  office: {network: nonsense}\n")
    zones = read_zones(Site(site, site))
    assert [overlay.zone.name for overlay in zones.plan.overlays] == ["office"]
    assert any("nonsense" in note for note in zones.notes)


def test_a_site_without_any_valid_policy_is_an_error(site: Path) -> None:
    """Neither the files nor a running configuration give zones."""
    (site / "policies" / "a.yaml").write_text("zones: [\n")
    with pytest.raises(SiteInvalid):
        read_zones(Site(site, site))

"""The network plan of a site: policy, network.yaml, flags."""

from ipaddress import ip_address
from pathlib import Path

import pytest

from relay.cli.net import plan_input
from relay.core.network_plan import NetworkPlan
from relay.site.locate import Site


def test_flags_overrule_the_file(site: Path) -> None:
    """network.yaml gives the relay's address; a flag of the same shape replaces it."""
    (site / "network.yaml").write_text("relay: {public: 1.1.1.1}\noverlays:\n  office: {network: 172.18.0.0/24}\n")
    at = Site(site, site)
    plan, compiled = plan_input.read_plan(at)
    assert plan.public == ip_address("1.1.1.1")
    assert [overlay.zone.name for overlay in plan.overlays] == ["office"]
    assert set(compiled.policy.inventory.zones) == {"office"}
    changed, _ = plan_input.read_plan(at, {"relay": {"public": "2.2.2.2"}})
    assert changed.public == ip_address("2.2.2.2")


@pytest.mark.parametrize(
    ("setting", "public"),
    [("1.1.1.1:2222", "1.1.1.1"), ("[2001:db8::1]:22", "2001:db8::1"), ("relay.example:2222", None), ("", None)],
)
def test_the_public_setting_is_used_when_it_is_an_address(setting: str, public: str | None) -> None:
    """A name is never resolved."""
    assert plan_input.with_public(NetworkPlan(), setting).public == (None if public is None else ip_address(public))


def test_the_public_setting_does_not_overrule_the_plan() -> None:
    """network.yaml is the more specific file."""
    plan = NetworkPlan(public=ip_address("3.3.3.3"))
    assert plan_input.with_public(plan, "1.1.1.1").public == ip_address("3.3.3.3")

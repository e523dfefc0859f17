"""What `doctor` says about a zone: its broken legs, or one line when it is well."""

from relay.cli.net import zone_findings
from relay.cli.net.zones import PlannedZones
from relay.core.network_plan import NetworkPlan
from relay.net.diagnose.path_check import PathCheckRequest
from relay.net.diagnose.path_verdict import Leg
from tests.net import recorded

REQUEST = PathCheckRequest(recorded.overlay())
GATEWAY = Leg("gateway", "ok", "172.18.0.200 answers a ping in 8 ms")
TARGET = Leg("target", "ok", "192.168.1.201:22 greets with SSH-2.0-x after 9 ms")


def test_a_zone_that_is_well_is_one_line() -> None:
    """Gateway and target with their figures; what was left out is named."""
    (finding,) = zone_findings.summarize(REQUEST, [GATEWAY, TARGET])
    assert finding == ("office", "ok", f"{GATEWAY.what}; {TARGET.what}", "")
    (finding,) = zone_findings.summarize(REQUEST, [GATEWAY, Leg("target", "skipped", "no host")])
    assert "(left out: target; relayctl net verify says why)" in finding[2]


def test_a_broken_leg_is_a_finding_with_its_cure() -> None:
    """No line says that the zone is well; warnings stand beside a well zone."""
    broken = Leg("gateway", "fault", "172.18.0.200 answers no ping", "type this")
    assert list(zone_findings.summarize(REQUEST, [broken])) == [
        ("office", "fault", "gateway: 172.18.0.200 answers no ping", "type this")
    ]
    slow = Leg("mtu", "warning", "only 1000 bytes", "look")
    assert [state for _, state, _, _ in zone_findings.summarize(REQUEST, [GATEWAY, slow])] == ["ok", "warning"]


def test_no_text_of_a_leg_moves_the_cursor() -> None:
    """A banner or an interface's name may hold anything."""
    (finding,) = zone_findings.summarize(REQUEST, [Leg("target", "ok", "greets with \x1b[31m")])
    assert "\x1b" not in finding[2]


def test_without_zones_there_are_no_findings() -> None:
    """Neither about paths nor about a guard that nothing needs."""
    zones = PlannedZones(NetworkPlan(), ())
    assert list(zone_findings.path_findings(zones)) == []
    assert list(zone_findings.guard_findings(zones)) == []

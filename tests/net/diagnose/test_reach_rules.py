"""What does not answer: the other end of the overlay, then the target."""

import errno
from dataclasses import replace

import pytest

from relay.net.diagnose.case import Case
from relay.net.diagnose.observation import PortState, Reachability, Role
from relay.net.diagnose.reach_rules import far_fault, target_fault
from relay.net.probe.ping import Echo, EchoKind
from tests.net import recorded
from tests.net.recorded import GATEWAY, OFF, REPLY, SILENT, TARGET

OVERLAY = recorded.overlay(network_id=recorded.NETWORK, lan_interface="lan0")
HERE = Echo(EchoKind.UNREACHABLE, None, code=errno.EPERM, detail="a packet filter here forbids it")


def case(far: Echo | None = REPLY, target: Echo | None = REPLY, *, zerotier: bool = True) -> Case:
    """The healthy relay, but for these two echoes."""
    seen = recorded.observation("healthy.relay", OVERLAY, far=far, target=target)
    seen = seen if zerotier else replace(seen, zerotier=None)
    return Case(seen, OVERLAY, recorded.plan(OVERLAY), Role.RELAY)


@pytest.mark.parametrize(
    ("far", "zerotier", "name"),
    [
        (REPLY, True, ""),
        (SILENT, True, "gateway-unauthorised"),  # its node was heard 0.2 s ago
        (SILENT, False, "gateway-silent"),
        (Echo(EchoKind.UNREACHABLE, TARGET, code=1, detail="host unreachable"), True, "gateway-unreachable"),
        (HERE, True, "filtered-here"),
    ],
)
def test_the_other_end(far: Echo, zerotier: bool, name: str) -> None:
    """Silence, another machine's refusal and our own packet filter are distinguished."""
    found = far_fault(case(far, zerotier=zerotier))
    assert (found.name if found is not None else "") == name


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (REPLY, ""),
        (SILENT, "target-silent"),
        (OFF, "target-down"),
        (Echo(EchoKind.UNREACHABLE, GATEWAY, code=0, detail="network unreachable"), "gateway-lan-down"),
        (Echo(EchoKind.UNREACHABLE, GATEWAY, code=13, detail="prohibited by a packet filter"), "target-filtered"),
        (HERE, "filtered-here"),
    ],
)
def test_the_target(target: Echo, name: str) -> None:
    """The codes of RFC 792 and RFC 1812 decide between a host, a LAN and a packet filter."""
    found = target_fault(case(target=target))
    assert (found.name if found is not None else "") == name


def test_a_port_that_answers_is_an_answer() -> None:
    """A host that drops pings is well when its port is open or refuses."""
    for state in (PortState.OPEN, PortState.REFUSED):
        seen = replace(case().seen, target=Reachability(TARGET, "remote", SILENT, port=22, port_state=state))
        assert target_fault(replace(case(), seen=seen)) is None

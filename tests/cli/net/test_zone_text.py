"""A zone is shown as lines and as JSON, and nothing in them moves a cursor."""

import json
from dataclasses import replace

import pytest

from relay.cli.net import zone_text
from relay.cli.net.zone_text import zone_block
from relay.net.diagnose.diagnosis import diagnose
from relay.net.diagnose.observation import PortState, Reachability, Role
from relay.net.kernel.interfaces import Interface
from relay.net.probe.ping import Echo, EchoKind
from tests.net import recorded
from tests.net.recorded import GATEWAY, SILENT, STATES, TARGET

HOSTILE = "zt0\x1b]0;\u202eowned\x07"


@pytest.mark.parametrize("state", STATES)
def test_every_recorded_state_can_be_shown(state: str) -> None:
    """As lines, as lines without figures (which differ in nothing else), and as JSON."""
    at, role = recorded.overlay(), Role(state.rpartition(".")[2])
    seen = recorded.observation(state, at)
    found = diagnose(seen, at, role=role)
    lines = list(zone_text.facts(at, seen, role))
    still = list(zone_text.facts(at, seen, role, figures=False))
    assert [label for label, _ in lines] == [label for label, _ in still]
    assert not any(" ms" in text or " s ago" in text for _, text in still)
    shown = json.loads(json.dumps(zone_text.zone_json(at, seen, found)))
    assert shown["state"] == found[0].state
    assert shown["diagnoses"][0]["cure"] == found[0].cure


def test_a_managed_route_that_the_kernel_lacks_is_marked() -> None:
    """What the controller sent is compared with the kernel's table; a gateway's own LAN needs no route."""
    at = recorded.overlay()
    lines = list(zone_text.facts(at, recorded.observation("restarted-route-missing.relay", at), Role.RELAY))
    assert ("managed", "192.168.1.0/24 via 172.18.0.200  (not in the kernel)") in lines
    assert ("managed", "172.18.0.0/24") in lines
    lines = list(zone_text.facts(at, recorded.observation("healthy.gateway", at), Role.GATEWAY))
    assert ("managed", "192.168.1.0/24 via 172.18.0.200") in lines


@pytest.mark.parametrize(
    ("reach", "text"),
    [
        (Reachability(GATEWAY, echo=Echo(EchoKind.REPLY, GATEWAY, 0.0081)), "172.18.0.200 answers in 8.1 ms"),
        (Reachability(GATEWAY, echo=Echo(EchoKind.REPLY, GATEWAY, 0.25)), "172.18.0.200 answers in 250 ms"),
        (Reachability(GATEWAY, echo=SILENT), "172.18.0.200 does not answer"),
        (
            Reachability(TARGET, "remote", SILENT, None, 22, PortState.OPEN),
            "remote 192.168.1.201: pings are silent, port 22 answers",
        ),
        (Reachability(TARGET, "remote", None, None, 22, PortState.OPEN), "remote 192.168.1.201: port 22 answers"),
        (Reachability(TARGET, "remote", recorded.OFF), "remote 192.168.1.201: host unreachable, says 172.18.0.200"),
        (Reachability(GATEWAY), "172.18.0.200 was not asked"),
    ],
)  # fmt: skip
def test_whether_an_address_answers(reach: Reachability, text: str) -> None:
    """With its latency, with the port's answer where pings are silent, or with the sender of the refusal."""
    at = recorded.overlay()
    seen = replace(recorded.observation("healthy.relay", at), far=reach)
    assert dict(zone_text.facts(at, seen, Role.RELAY))["gateway"] == text


def test_a_strangers_text_moves_no_cursor() -> None:
    """Names of interfaces and networks, and every diagnosis made of them, are escaped."""
    at = recorded.overlay(HOSTILE)
    seen = recorded.observation("healthy.relay", recorded.overlay())
    assert seen.zerotier is not None
    network = replace(seen.zerotier.networks[0], name=HOSTILE, interface=HOSTILE, status="OK\x1b")
    seen = replace(
        seen,
        interface=HOSTILE,
        interfaces=(Interface(HOSTILE, 3, False, (), False),),
        zerotier=replace(seen.zerotier, networks=(network,)),
        far=None,
        target=None,
        left_out=(HOSTILE,),
    )
    lines = zone_block(at, seen, diagnose(seen, at), Role.RELAY)
    assert not any(set("\x1b\x07\u202e") & set(line) for line in (_plain(line) for line in lines))


def _plain(line: str) -> str:
    from click import unstyle

    return unstyle(line)

"""What `net status --watch` prints of observations, without waiting for any."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from relay.cli.net import watch
from relay.net.diagnose.diagnosis import diagnose
from relay.net.diagnose.observation import Role
from tests.net import recorded

OVERLAY = recorded.overlay(network_id=recorded.NETWORK)


def thread(state: str, at: float = 0.0) -> Any:
    """A zone whose last observation is this recorded state."""
    seen = recorded.observation(state, OVERLAY)
    return SimpleNamespace(overlay=OVERLAY, last=(at, seen, diagnose(seen, OVERLAY)))


def test_only_lines_that_changed_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """The first time all of them, then none, then those of the new state."""
    shown: dict[tuple[str, str, int], str] = {}
    watch._changes([thread("healthy.relay")], Role.RELAY, shown)
    first = capsys.readouterr().out
    assert "office ok: remote answers through 172.18.0.200" in first
    watch._changes([thread("healthy.relay")], Role.RELAY, shown)
    assert capsys.readouterr().out == ""
    watch._changes([thread("interface-down.relay")], Role.RELAY, shown)
    changed = capsys.readouterr().out
    assert "office interface: zt0, down" in changed
    assert "office fault: zt0 is set down -> ip link set zt0 up" in changed


def test_json_is_one_line_per_observation(capsys: pytest.CaptureFixture[str]) -> None:
    """The time in microseconds, and every zone that was observed."""
    watch._json([thread("healthy.relay"), SimpleNamespace(overlay=OVERLAY, last=None)])
    (line,) = capsys.readouterr().out.splitlines()
    document = json.loads(line)
    assert [zone["zone"] for zone in document["zones"]] == ["office"]
    assert document["time"] > 1_700_000_000_000_000


def test_a_late_observation_says_its_age(capsys: pytest.CaptureFixture[str]) -> None:
    """Older than three rounds; a zone that was not observed yet is named all the same."""
    watch._draw([SimpleNamespace(overlay=OVERLAY, last=None), thread("healthy.relay", at=-1000.0)], Role.RELAY)
    drawn = capsys.readouterr().out
    assert "(as of " in drawn
    assert "office  looking ..." in drawn

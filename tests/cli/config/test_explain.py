"""`relayctl explain` as it is typed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Relayctl = Callable[..., Any]


def test_allowed(relayctl: Relayctl, site: Path) -> None:
    """An allowed target gives status 0 and the rule with file and line."""
    done = relayctl("--site", site, "explain", "alice", "remote:22")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("alice to remote:22: allowed")
    assert "'ssh' (policies/a.yaml:6)" in done.stdout
    assert "alice has no key" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("alice", "192.168.1.50:22"), "'the recorder' (policies/a.yaml:7)"),
        (("alice", "remote:23"), "port 23 is not in 22"),
        (("alice", "remot:22"), "did you mean remote"),
        (("alice", "169.254.169.254:80"), "link-local"),
        (("carol", "remote:22"), "only from 203.0.113.0/24"),
        (("carol", "remote:22", "--from", "203.0.113.5", "--at", "2031-01-01"), "it ended 2030-12-31"),
    ],
)
def test_denied(relayctl: Relayctl, site: Path, arguments: tuple[str, ...], words: str) -> None:
    """A denial gives status 1, and says what would have to change."""
    done = relayctl("--site", site, "explain", *arguments)
    assert done.returncode == 1, done.stderr
    assert "denied" in done.stdout
    assert words in done.stdout


@pytest.mark.parametrize("at", ["2030-12-31", "2030-12-31T23:59", "2030-12-31 15:59Z"])
def test_source_and_time(relayctl: Relayctl, site: Path, at: str) -> None:
    """--from and --at ask about another place and time; `until` ends with its day."""
    done = relayctl("--site", site, "explain", "carol", "remote:22", "--from", "203.0.113.5", "--at", at)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("alice", "remote"),
        ("alice", "remote:0"),
        ("Alice", "remote:22"),
        ("alice", "remote:22", "--from", "somewhere"),
        ("alice", "remote:22", "--at", "noon"),
        ("alice",),
    ],
)
def test_wrong_usage(relayctl: Relayctl, site: Path, arguments: tuple[str, ...]) -> None:
    """What is no question is wrong usage, status 2, and never a verdict."""
    done = relayctl("--site", site, "explain", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Error: " in done.stderr


def test_json(relayctl: Relayctl, site: Path) -> None:
    """--json says the same for programs."""
    done = relayctl("--site", site, "explain", "alice", "192.168.1.50:22", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 1
    assert (found["allowed"], found["reason"], found["rule_at"]) == (False, "deny-rule", "policies/a.yaml:7")
    assert found["destination"] == {"zone": "office", "address": "192.168.1.50", "port": 22}
    assert found["changes"]

"""relayctl reload against a real relay."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.relay_process import POLICY, relay


def test_a_reload_applies_the_files_completely_or_not_at_all(tmp_path: Path) -> None:
    """A valid change is listed and applied; an invalid one changes nothing, and its faults are shown."""
    with relay(tmp_path) as one:
        one.policy(POLICY + "# a comment\n")
        assert "policies/" in one.ctl("reload", "--dry-run")
        assert json.loads(one.ctl("reload", "--json"))["ok"] is True
        assert "nothing changed" in one.ctl("reload")
        one.policy("rules: [half")
        said = one.ctl("reload", status=1)
        assert "not YAML" in said
        assert "the running configuration stays" in said


def test_without_a_relay_the_exit_status_is_3(site: Path, relayctl: Callable[..., Any]) -> None:
    """A script can tell a relay that is not running from a refused policy."""
    done = relayctl("--site", site, "reload")
    assert done.returncode == 3
    assert done.stderr


@pytest.mark.parametrize("arguments", [("--dry-run",), ("--dry-run", "--json")])
def test_a_dry_run_of_invalid_files_shows_their_faults(
    site: Path, relayctl: Callable[..., Any], arguments: tuple[str, ...]
) -> None:
    """It needs no running relay to refuse."""
    (site / "policies" / "a.yaml").write_text("zones: [")
    done = relayctl("--site", site, "reload", *arguments)
    assert done.returncode == 1
    assert "policies/a.yaml" in done.stdout + done.stderr

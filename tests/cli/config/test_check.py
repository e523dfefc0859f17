"""`relayctl check` as it is typed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Relayctl = Callable[..., Any]


def test_valid(relayctl: Relayctl, site: Path) -> None:
    """A valid site is reported as valid with status 0; warnings are no faults."""
    done = relayctl("--site", site, "check")
    assert done.returncode == 0
    assert "valid: policy " in done.stdout
    assert "1 zone, 1 host, 3 rules, 1 expectation met" in done.stdout
    assert "warning: policies/a.yaml:6: alice has no key" in done.stdout


def test_environment(relayctl: Relayctl, site: Path) -> None:
    """RELAY_SITE names the site when no option does."""
    assert relayctl("check", RELAY_SITE=str(site)).returncode == 0


def test_a_limit_in_the_wrong_place(relayctl: Relayctl, site: Path) -> None:
    """The fault of a misplaced limit names the right section, not the nearest setting."""
    (site / "relay.yaml").write_text("login_grace: 30s\n")
    done = relayctl("--site", site, "check")
    assert "relay.yaml:1: unknown key 'login_grace' in the file; it belongs under `limits:`" in done.stdout


def test_every_fault(relayctl: Relayctl, site: Path) -> None:
    """Faults of settings, policy and keys come together as file:line, with status 1, and nothing is written."""
    (site / "relay.yaml").write_text("\nworkres: 2\n")
    (site / "policies" / "b.yaml").write_text("rules:\n  - {name: x, allow: [alice], to: [remte], ports: [22]}\n")
    (site / "keys" / "bob.pub").write_text("ssh-ed25519 AAAA\n")
    for name in ("relay.yaml", "policies/b.yaml", "keys/bob.pub"):
        (site / name).chmod(0o640)
    before = sorted(site.rglob("*"))
    done = relayctl("--site", site, "check")
    assert done.returncode == 1
    assert "relay.yaml:2: unknown key 'workres' in the file; did you mean 'workers'?" in done.stdout
    assert "policies/b.yaml:2: to: no host or zone 'remte'; did you mean remote?" in done.stdout
    assert "keys/bob.pub:1: " in done.stdout
    assert "not valid: 3 faults" in done.stderr
    assert sorted(site.rglob("*")) == before


def test_failing_expectation(relayctl: Relayctl, site: Path) -> None:
    """A failing expectation is shown with the rule that decided, file and line."""
    with (site / "policies" / "a.yaml").open("a") as file:
        file.write('  - {who: alice, to: "192.168.1.50:22", verdict: allow}\n')
    done = relayctl("--site", site, "check")
    assert done.returncode == 1
    assert "policies/a.yaml:11: expected alice to 192.168.1.50:22: allow, but it is denied (deny-rule)" in done.stdout
    assert "'the recorder' (policies/a.yaml:7) decided" in done.stdout


def test_json(relayctl: Relayctl, site: Path) -> None:
    """--json says the same for programs."""
    with (site / "policies" / "a.yaml").open("a") as file:
        file.write('  - {who: bob, to: "remote:22", verdict: allow}\n')
    done = relayctl("--site", site, "check", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 1
    assert (found["valid"], found["site"], found["faults"]) == (False, str(site), [])
    (failure,) = found["failures"]
    assert (failure["file"], failure["line"], failure["reason"]) == ("policies/a.yaml", 11, "no-rule")
    assert failure["rule_at"] is None


def test_no_site(relayctl: Relayctl, tmp_path: Path) -> None:
    """A missing site, and one that others can write, are errors with the cure and without a traceback."""
    done = relayctl("--site", tmp_path / "none", "check")
    assert (done.returncode, done.stdout) == (1, "")
    assert "relayctl init" in done.stderr
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    done = relayctl("--site", tmp_path / "open", "check")
    assert done.returncode == 1
    assert "chmod go-w" in done.stderr


def test_terminal_escapes(relayctl: Relayctl, site: Path) -> None:
    """Text from the files reaches the terminal escaped."""
    (site / "policies" / "b.yaml").write_text('"evil\\u001b[31m": 1\n')
    (site / "policies" / "b.yaml").chmod(0o640)
    done = relayctl("--site", site, "check")
    assert done.returncode == 1
    assert "\x1b" not in done.stdout
    assert "evil" in done.stdout


def test_checkout(relayctl: Relayctl) -> None:
    """The example site of the repository is valid with zero people, as the README says."""
    done = relayctl("--site", Path(__file__).parents[3], "check")
    assert done.returncode == 0, done.stdout + done.stderr

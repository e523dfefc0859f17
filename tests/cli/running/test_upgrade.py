"""`relayctl upgrade` without systemd; tests/packaging/test_readme.py upgrades a service of a real one."""

import sys
from pathlib import Path

import pytest

from relay import __version__
from relay.serve import control_client
from tests.relay_process import Relay, echo_server, relay, wait_for
from tests.serve.hostile import Client, load_key


def status(one: Relay) -> dict[str, object]:
    """What the relay that runs says of itself."""
    return control_client.call(one.site / "state", {"do": "status"})


def program(path: Path, script: str) -> Path:
    """A program that calls itself relayctl."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_without_systemd_it_says_how_and_what_it_costs(tmp_path: Path) -> None:
    """The new version checks; then the commands to type and the connections they would end; the relay goes on."""
    with relay(tmp_path, settings="workers: 1\n") as one, echo_server() as port:
        before = status(one)["pid"]
        new = program(tmp_path / "relayctl", f'exec {sys.executable} -P -m relay "$@"')
        with Client(one.port) as client:
            client.login("alice", load_key(one.key))
            client.open("remote", port)
            wait_for(lambda: status(one)["forwards"] == 1, "its forward is not counted")
            said = one.ctl("upgrade", "--program", str(new), status=1)
            assert f"running: version {__version__}, process {before}" in said
            assert "the new version checks the site" in said
            assert "Stopping it ends 1 connection with 1 forward" in said
            assert f"kill {before}; then: {new} --site {one.site} serve" in said
            client.echo("remote", port)
        assert status(one)["pid"] == before


def test_a_new_version_that_does_not_take_the_site_changes_nothing(tmp_path: Path) -> None:
    """Its own check has faults: they are shown, and the relay that runs goes on."""
    with relay(tmp_path, settings="workers: 1\n") as one:
        before = status(one)["pid"]
        script = 'case "$*" in *--version) echo version 9.9 ;; *) echo "rules.yaml:3: not mine"; exit 1 ;; esac'
        said = one.ctl("upgrade", "--program", str(program(tmp_path / "relayctl", script)), status=1)
        assert "next:    version 9.9" in said
        assert "rules.yaml:3: not mine" in said
        assert "nothing was changed; the relay goes on" in said
        assert status(one)["pid"] == before


def test_a_version_that_cannot_read_the_audit_log_is_not_stepped_back_to(tmp_path: Path) -> None:
    """The database's format is newer than that release: it is told before anything changes, and the relay goes on."""
    with relay(tmp_path, settings="workers: 1\n") as one:
        before = status(one)["pid"]
        script = (
            'case "$*" in *--version) echo 0.1 ;; *check) ;; *) echo "hint" >&2; echo "format 2?" >&2; exit 1 ;; esac'
        )
        said = one.ctl("upgrade", "--program", str(program(tmp_path / "relayctl", script)), status=1)
        assert "cannot read the audit log: format 2?" in said
        assert "nothing was changed" in said
        assert status(one)["pid"] == before


@pytest.mark.parametrize("script", ["exit 1", "exit 0"])
def test_what_is_no_relayctl_is_refused(tmp_path: Path, script: str) -> None:
    """A program that cannot say its version is not started to serve."""
    with relay(tmp_path, settings="workers: 1\n") as one:
        said = one.ctl("upgrade", "--program", str(program(tmp_path / "relayctl", script)), status=1)
        assert "does not run" in said
        assert "is no program" in one.ctl("upgrade", "--program", str(tmp_path), status=1)


def test_nobody_to_upgrade(tmp_path: Path) -> None:
    """Without a running relay: exit 3."""
    one = Relay(tmp_path)
    assert "no relay answers" in one.ctl("upgrade", status=3)
    one.end()

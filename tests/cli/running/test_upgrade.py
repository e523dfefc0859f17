"""`relayctl upgrade` without systemd: the check first, then the new version beside the old one, then it alone."""

import socket
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


def test_an_upgrade_keeps_connections_and_says_who_drains(tmp_path: Path) -> None:
    """It checks, takes over, names both versions, and the worker that goes on; the log goes on where it was."""
    with relay(tmp_path, settings="workers: 1\n") as one, echo_server() as port:
        before = status(one)["pid"]
        new = program(tmp_path / "relayctl", f'exec {sys.executable} -P -m relay "$@"')
        with Client(one.port) as client:
            client.login("alice", load_key(one.key))
            number, channel = client.open("remote", port)
            said = one.ctl("upgrade", "--program", str(new))
            after = status(one)["pid"]
            assert after != before
            assert f"running: version {__version__}, process {before}" in said
            assert "the new version checks the site" in said
            assert f"serving: version {__version__}, process {after}" in said
            assert "goes on until it is empty: 1 connection with 1 forward" in said
            client.write(channel, b"on")
            assert client.read(number, 2) == b"on"
            client.echo("remote", port)
        one.ctl("reload")
        wait_for(lambda: "site applied" in one.log(), "the log of the successor goes elsewhere")
        assert not (one.site / "state" / "run" / "upgrade.log").exists()
        assert one.process is not None
        assert one.process.wait(10) == 0


def test_an_upgrade_takes_a_changed_listen_with_it(tmp_path: Path) -> None:
    """A relay with sockets of its own: the new one listens at the new address too, and keeps the old one's socket."""
    one = Relay(tmp_path)
    with socket.create_server(("127.0.0.4", 0)) as probe:
        first, second = f"127.0.0.4:{probe.getsockname()[1]}", f"127.0.0.5:{probe.getsockname()[1]}"
    (one.site / "relay.yaml").write_text(f'listen: ["{first}"]\nworkers: 1\n')
    try:
        one._run("-m", "relay", "--site", str(one.site), "serve")
        (one.site / "relay.yaml").write_text(f'listen: ["{first}", "{second}"]\nworkers: 1\n')
        assert "not in force yet: relayctl upgrade" in one.ctl("reload")
        assert status(one)["listening"] == [first]
        one.ctl("upgrade")
        assert status(one)["listening"] == [first, second]
        for address in (first, second):
            host, _, port = address.partition(":")
            with socket.create_connection((host, int(port))) as sock:
                assert sock.recv(4) == b"SSH-"
        assert "warning: this relay listens" not in one.log()
    finally:
        one.end()


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


def test_a_new_version_that_does_not_start_is_quoted(tmp_path: Path) -> None:
    """It dies instead of serving: its last words are shown, and the relay that ran goes on."""
    with relay(tmp_path, settings="workers: 1\n") as one:
        before = status(one)["pid"]
        script = 'case "$*" in *--version) echo 9.9 ;; *check | *tail*) ;; *) echo "no library" >&2; exit 1 ;; esac'
        said = one.ctl("upgrade", "--program", str(program(tmp_path / "relayctl", script)), status=1)
        assert "no library" in said
        assert "the relay that ran before goes on" in said
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

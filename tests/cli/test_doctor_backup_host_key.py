"""doctor, backup, restore and host-key, against a real relay."""

import contextlib
import json
import shutil
import socket
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.relay_process import POLICY, Relay, relay


@contextmanager
def greeter() -> Iterator[int]:
    """An SSH server as far as its greeting, at the address of `remote`; its port."""
    with socket.create_server(("127.0.0.2", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.sendall(b"SSH-2.0-greeter\r\n")
                        while connection.recv(65536):
                            pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_the_doctor_finds_a_healthy_relay_healthy(tmp_path: Path) -> None:
    """Every check is ok on a relay that serves, and the exit status says so; one file changed is a warning."""
    with greeter() as port, relay(tmp_path, POLICY, "public: relay.example.com:22\n") as one:
        one.policy(POLICY.replace("user: tester", f"user: tester, port: {port}"))
        one.ctl("reload")
        findings = json.loads(one.ctl("doctor", "--json"))
        assert {finding["state"] for finding in findings} == {"ok"}, findings
        names = {finding["name"] for finding in findings}
        assert names >= {
            "modes",
            "site",
            "host keys",
            "clock",
            "database",
            "audit key",
            "relay",
            "sockets",
            "zone here",
            "algorithms",
        }
        (zone,) = [finding["what"] for finding in findings if finding["name"] == "zone here"]
        assert zone.startswith(f"127.0.0.2:{port} greets with SSH-2.0-greeter after ")
        one.policy("hosts: {other: {address: 127.0.0.3, zone: here}}\n", "more")
        assert "relayctl reload" in one.ctl("doctor")


def test_the_doctor_names_the_first_cure(tmp_path: Path) -> None:
    """A stopped relay, a broken policy and a zone without its interface are faults, each with its cure."""
    one = Relay(tmp_path, policy="zones:\n  office: {networks: [192.168.1.0/24], interface: nothere0}\n")
    try:
        said = one.ctl("doctor", status=1)
        assert "interface: interface-missing: there is no interface 'nothere0'" in said
        assert "relayctl serve" in said
        one.policy("zones: [\n", "broken")
        assert "broken.yaml" in one.ctl("doctor", status=1)
        assert "broken.yaml" in one.ctl("doctor", status=1).splitlines()[-1] or "first:" in one.ctl("doctor", status=1)
    finally:
        one.end()


def test_the_doctor_sees_a_file_that_others_can_write(tmp_path: Path) -> None:
    """A policy that everybody can write is named with the chmod."""
    one = Relay(tmp_path)
    try:
        (one.site / "policies" / "main.yaml").chmod(0o666)
        assert f"chmod go-w {one.site / 'policies' / 'main.yaml'}" in one.ctl("doctor", status=1)
    finally:
        one.end()


def test_a_backup_brings_everything_back(tmp_path: Path) -> None:
    """After a loss the restored relay has the same host key, people, policy and rows, and says it was restored."""
    with relay(tmp_path) as one:
        file = tmp_path / "backup.tar.gz"
        before = one.ctl("host-key", "list")
        one.ctl("backup", str(file))
        assert file.stat().st_mode & 0o777 == 0o600
        assert one.ctl("backup", str(file), status=1).count("exists already") == 1
        with tarfile.open(file) as tar:
            assert [name for name in tar.getnames() if "audit_key" in name] == [], (
                "no backup holds the private audit key"
            )
        assert "another process writes" in one.ctl("restore", "--yes", str(file), status=1)
        rows = [row["id"] for row in one.rows()]
        one.stop()
        shutil.rmtree(one.site / "state")
        shutil.rmtree(one.site / "keys")
        one.policy("rules: []\n")
        one.ctl("restore", "--yes", str(file))
        assert one.ctl("host-key", "list") == before
        one.start()
        again = [row["id"] for row in one.rows()]
        assert again[: len(rows) - 1] == rows[:-1]  # the last one told of the backup itself
        assert one.wait_row("backup.restored")["file"] == str(file)
        assert (one.site / "keys" / "alice.pub").exists()
        assert "remote" in (one.site / "policies" / "main.yaml").read_text()


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "site/../../evil", "other/file", "site/keys/../../../evil"])
def test_a_hostile_backup_changes_nothing(tmp_path: Path, name: str) -> None:
    """A tar with a path of its own choosing is refused before anything is written."""
    one = Relay(tmp_path)
    try:
        file = tmp_path / "evil.tar.gz"
        with tarfile.open(file, "w:gz") as tar:
            tar.add(tmp_path / "alice", arcname=name)
        before = sorted(path.name for path in one.site.iterdir())
        assert "no backup of a relay" in one.ctl("restore", "--yes", str(file), status=1)
        assert sorted(path.name for path in one.site.iterdir() if path.name != "state") == [
            name for name in before if name != "state"
        ]
        assert not list(tmp_path.rglob("evil"))
    finally:
        one.end()


def test_a_truncated_backup_changes_nothing(tmp_path: Path) -> None:
    """Half a file is refused as damaged, with the site as it was."""
    with relay(tmp_path) as one:
        file = tmp_path / "backup.tar.gz"
        one.ctl("backup", str(file))
        one.stop()
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        policy = (one.site / "policies" / "main.yaml").read_text()
        assert "not a whole backup" in one.ctl("restore", "--yes", str(file), status=1)
        assert (one.site / "policies" / "main.yaml").read_text() == policy


def test_host_keys_are_added_and_retired_on_record(tmp_path: Path) -> None:
    """Adding and retiring leave rows, with a relay running and without one."""
    one = Relay(tmp_path)
    try:
        assert "added ssh-ed25519" in one.ctl("host-key", "add")
        assert "added ssh-ed25519" in one.ctl("host-key", "add")
        names = [key["name"] for key in json.loads(one.ctl("host-key", "list", "--json"))]
        assert names == ["ed25519", "ed25519-2"]
        one.ctl("host-key", "retire", "ed25519-2")
        assert len(one.rows("host_key.added")) == 2
        assert len(one.rows("host_key.retired")) == 1
        assert "only host key" in one.ctl("host-key", "retire", "ed25519", status=1)
    finally:
        one.end()

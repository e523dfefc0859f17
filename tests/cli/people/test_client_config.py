"""relayctl client-config: as an administrator types it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from relay.store import host_keys

FIXTURES = Path(__file__).parents[2] / "fixtures" / "keys"
POLICY = """\
zones: {office: {networks: [192.168.1.0/24], interface: "zt*"}}
hosts: {remote: {address: 192.168.1.201, zone: office, user: ubuntu}}
rules:
  - {name: alice, allow: [alice], to: [remote], ports: [22]}
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    path = tmp_path / "site"
    for part in (path, path / "keys", path / "policies", path / "state"):
        part.mkdir(mode=0o750)
    (path / "relay.yaml").write_text("public: relay.example.com:22\n")
    (path / "policies" / "main.yaml").write_text(POLICY)
    (path / "keys" / "alice.pub").write_text((FIXTURES / "ed25519.pub").read_text())
    return path


def ctl(site: Path, *arguments: str, status: int = 0) -> tuple[str, str]:
    command = [sys.executable, "-P", "-m", "relay", "--site", site, "client-config", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout, done.stderr


def test_the_whole_configuration(site: Path) -> None:
    """The relay by its public name, its key pinned, the host with user and alias; the other forms on request."""
    key = host_keys.make(site / "state")
    out, _ = ctl(site, "alice")
    assert "Host relay\n    HostName relay.example.com\n    Port 22\n    User alice\n" in out
    assert "Host remote\n    HostName remote\n    Port 22\n    User ubuntu\n    HostKeyAlias remote.office\n" in out
    assert f"#   relay.example.com {key.public}" in out
    assert ctl(site, "alice", "--known-hosts")[0] == f"relay.example.com {key.public}\n"
    assert "System32" in ctl(site, "alice", "--os", "windows")[0]
    assert key.fingerprint in ctl(site, "alice", "--putty")[0]
    assert json.loads(ctl(site, "alice", "--json")[0])["hosts"][0]["name"] == "remote"
    assert "User jump\n" in ctl(site, "alice", "--login", "jump")[0]


def test_an_unknown_person_is_refused(site: Path) -> None:
    """Exit status 1 with the nearest name."""
    assert "did you mean alice?" in ctl(site, "alcie", status=1)[1]


def test_a_site_that_does_not_say_how_it_is_reached(site: Path) -> None:
    """Without `public` there is no configuration, and the cure says where to write it."""
    (site / "relay.yaml").write_text("")
    assert "public: relay.example.com:22" in ctl(site, "alice", status=1)[1]

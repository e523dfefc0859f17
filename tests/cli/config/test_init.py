"""`relayctl init` as it is typed."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from relay.cli.config.init import init

Relayctl = Callable[..., Any]


def test_new_site(relayctl: Relayctl, tmp_path: Path) -> None:
    """A new site has settings, policies, keys, schemas and a host key, is closed to others, and checks as valid."""
    site = tmp_path / "site"
    done = relayctl("init", site)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(f"site {site}\n")
    for name in ("relay.yaml", "policies/policy.yaml", "keys/README", "keys/.reserve", "schemas/relay.schema.json"):
        assert f"made {site / name}" in done.stdout
    assert "made host key SHA256:" in done.stdout
    key = re.search(r"made audit key (\S{44})\n  keep it elsewhere: relayctl audit verify --key \1\n", done.stdout)
    assert key is not None
    assert json.loads(relayctl("--site", site, "audit", "verify", "--json").stdout)["keys"][0]["key"] == key[1]
    assert (site / "state").stat().st_mode & 0o777 == 0o700
    checked = relayctl("--site", site, "check")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_again(relayctl: Relayctl, tmp_path: Path) -> None:
    """A second run changes no file, and keeps the host key."""
    site = tmp_path / "site"
    relayctl("init", site)
    before = {path: path.read_bytes() for path in site.rglob("*") if path.is_file()}
    done = relayctl("init", site)
    assert done.returncode == 0
    assert "made " not in done.stdout
    assert "kept host key SHA256:" in done.stdout
    assert {path: path.read_bytes() for path in site.rglob("*") if path.is_file()} == before


def test_host_key_taken_over(relayctl: Relayctl, tmp_path: Path) -> None:
    """--host-key takes an existing private key over; a missing one is an error with nothing but a site made."""
    relayctl("init", tmp_path / "old")
    (key,) = (path for path in (tmp_path / "old" / "state" / "host_keys").iterdir() if path.suffix == "")
    done = relayctl("init", tmp_path / "new", "--host-key", key)
    assert done.returncode == 0, done.stderr
    old = (tmp_path / "old" / "state" / "host_keys" / f"{key.name}.pub").read_text().split()[1]
    assert any(old in path.read_text() for path in (tmp_path / "new" / "state" / "host_keys").glob("*.pub"))
    done = relayctl("init", tmp_path / "third", "--host-key", tmp_path / "missing")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_foreign_directory(relayctl: Relayctl, tmp_path: Path) -> None:
    """A directory that holds something else is left alone."""
    (tmp_path / "letter.txt").touch()
    tmp_path.chmod(0o755)
    done = relayctl("init", tmp_path)
    assert done.returncode == 1
    assert "not a site" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_options() -> None:
    """The options that the design names are there."""
    assert {option for parameter in init.params for option in parameter.opts} >= {"--systemd", "--host-key"}


@pytest.mark.parametrize("arguments", [(), ("a", "b")])
def test_wrong_usage(relayctl: Relayctl, arguments: tuple[str, ...]) -> None:
    """Exactly one directory is needed."""
    assert relayctl("init", *arguments).returncode == 2

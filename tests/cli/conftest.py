"""Runs relayctl as a program is run: arguments in; exit status, stdout and stderr out."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from relay.cli import main


@dataclass(frozen=True, slots=True)
class Done:
    """What a finished command left behind."""

    returncode: object
    stdout: str
    stderr: str


@pytest.fixture
def relayctl(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """`relayctl(*arguments, NAME="of the environment")`: the entry point itself, in this process (0.4 s less each)."""

    def run(*arguments: str | Path, **environment: str) -> Done:
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["relayctl", *map(str, arguments)])
            patch.delenv("RELAY_SITE", raising=False)
            for name, value in environment.items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit) as ended:
                main()
        return Done(ended.value.code or 0, *capsys.readouterr())

    return run


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A small valid site, whose policy is policies/a.yaml."""
    site = tmp_path / "site"
    for directory in (site, site / "policies", site / "keys"):
        directory.mkdir(mode=0o750)
    policy = site / "policies" / "a.yaml"
    policy.write_text(
        """\
zones:
  office: {networks: [192.168.1.0/24], interface: "zt*"}
hosts:
  remote: {address: 192.168.1.201, zone: office}
rules:
  - {name: ssh, allow: [alice], to: [office], ports: [22]}
  - {name: the recorder, deny: [everyone], to: [192.168.1.50]}
  - {name: contractor, allow: [carol], to: [remote], ports: [22], from: [203.0.113.0/24], until: 2030-12-31}
expect:
  - {who: alice, to: "remote:22", verdict: allow}
"""
    )
    policy.chmod(0o640)
    return site

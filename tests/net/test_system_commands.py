"""Programs of the system: run apart, bounded, and named with their package when they are missing."""

import time
from pathlib import Path

import pytest

from relay.errors import RelayError
from relay.net import system_commands


def test_output_complaint_and_status_are_told_apart() -> None:
    """What a program prints, what it complains of and how it ends are three things."""
    ended = system_commands.run("sh", "-c", "cat; echo no >&2; exit 3", input="yes")
    assert (ended.status, ended.output, ended.complaint) == (3, "yes", "no\n")
    assert ended.why == "no"


def test_a_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without nft the cure is the name of the package to install."""
    monkeypatch.setattr(system_commands, "SYSTEM_PATH", str(tmp_path))
    with pytest.raises(RelayError, match="the program nft is not there") as raised:
        system_commands.run("nft", "list", "tables")
    assert raised.value.hint == "install its package: apt-get install nftables"


def test_a_program_that_does_not_end_is_killed_with_its_children() -> None:
    """The time-out is an error that names the program; a pipe held by its child does not delay it."""
    began = time.monotonic()
    with pytest.raises(RelayError, match=r"sh -c .* did not end within 0\.2 s"):
        system_commands.run("sh", "-c", "sleep 60 & sleep 60", timeout=0.2)
    assert time.monotonic() - began < 10


def test_a_failure_is_an_error_where_an_answer_is_demanded() -> None:
    """The complaint becomes one line without anything that could move a cursor."""
    with pytest.raises(RelayError) as raised:
        system_commands.demand("sh", "-c", "printf 'one\\n\\033[31mtwo\\n' >&2; exit 1")
    assert raised.value.what.endswith(r"one; \x1b[31mtwo")
    assert system_commands.demand("sh", "-c", "echo fine") == "fine\n"


def test_the_environment_of_the_caller_is_not_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers are in English and libraries are the system's, whatever the person's environment says."""
    monkeypatch.setenv("LD_PRELOAD", "")
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    assert "LD_PRELOAD" not in system_commands.demand("sh", "-c", "env")
    assert "LC_ALL=C\n" in system_commands.demand("sh", "-c", "env")

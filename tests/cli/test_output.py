"""Tables and JSON as the commands print them."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from relay.cli.output import print_json, table


def test_table_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    """In a pipe a table is aligned plain text, with untrusted text escaped and None empty."""
    table(("name", "key"), [("alice", "x\x1b[31m"), ("b", None)])
    assert capsys.readouterr().out.splitlines() == ["name   key", "alice  x\\x1b[31m", "b"]


def test_table_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal of any width fingerprints stay whole, so they can be copied; wide characters are aligned."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    whole = "SHA256:" + "x" * 43
    table(("name", "key", "why"), [("张三", whole, "left"), ("b", whole, None)])
    assert capsys.readouterr().out.splitlines() == [
        f"\x1b[1mname  key{' ' * 47}  why\x1b[0m",
        f"张三  {whole}  left",
        f"b     {whole}",
    ]


def test_empty_table(capsys: pytest.CaptureFixture[str]) -> None:
    """A table without rows has its headings."""
    table(("name", "key"), [])
    assert capsys.readouterr().out == "name  key\n"


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON is ASCII, so that no terminal is tricked by it."""
    print_json({"a": "\x1b\u202e"})
    printed = capsys.readouterr().out
    assert printed.isascii()
    assert json.loads(printed) == {"a": "\x1b\u202e"}


@pytest.mark.parametrize(("wish", "coloured"), [("", True), ("1", False)])
def test_no_color(site: Path, wish: str, coloured: bool) -> None:
    """On a terminal there are escape sequences, with NO_COLOR set there are none."""
    terminal, end = pty.openpty()
    subprocess.run(
        [sys.executable, "-P", "-m", "relay", "--site", site, "doctor"],
        stdout=end,
        env=os.environ | {"NO_COLOR": wish},
        timeout=60,
        check=False,  # nothing runs here
    )
    os.close(end)
    printed = os.read(terminal, 4096)
    os.close(terminal)
    assert b"modes: " in printed
    assert (b"\x1b[" in printed) is coloured

"""Tables and JSON as the commands print them."""

import json

import pytest

from relay.cli.output import print_json, table


def test_table_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    """In a pipe a table is aligned plain text, with a stranger's text escaped and None empty."""
    table(("name", "key"), [("alice", "x\x1b[31m"), ("b", None)])
    assert capsys.readouterr().out.splitlines() == ["name   key", "alice  x\\x1b[31m", "b"]


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

"""Search results as a table, JSON lines and CSV."""

import csv
import io
import json
from datetime import UTC

import pytest

from relay.cli.audit.table import print_results
from relay.review.search import SearchResult
from tests.audit_rows import Relay, chained


def results(person="alice", **fields):
    """One denied forward."""
    relay = Relay()
    return [SearchResult((row,)) for row in chained([relay.denied(relay.connect(person, **fields))])]


def printed(capsys, shape, **fields):
    """The output of one result in a shape."""
    print_results(results(**fields), shape, UTC)
    return capsys.readouterr().out


def test_json_is_one_object_a_line_with_times_in_utc(capsys):
    """With microseconds."""
    line = json.loads(printed(capsys, "json"))
    assert (line["event"], line["person"]) == ("forward.denied", "alice")
    assert line["time"].startswith("2026-10-01T12:00:")
    assert line["time"].endswith("Z")


def test_csv_has_one_column_for_each_field(capsys):
    """RFC 4180: the columns are those of the first line."""
    (line,) = csv.DictReader(io.StringIO(printed(capsys, "csv")))
    assert (line["person"], line["outcome"], line["asked"]) == ("alice", "denied: deny-rule", "recorder:22")


@pytest.mark.parametrize("text", ["=1+1", "+1+1", "-1+1", "@SUM(A1)"])
def test_no_cell_of_csv_is_a_formula(capsys, text):
    """A spreadsheet would run a text that begins like one; it gets an apostrophe."""
    (line,) = csv.DictReader(io.StringIO(printed(capsys, "csv", client_version=text)))
    assert line["client_version"] == f"'{text}"


@pytest.mark.parametrize("shape", ["table", "csv"])
def test_control_characters_are_written_out(capsys, shape):
    """A name from the log cannot move the cursor."""
    out = printed(capsys, shape, person="\x1b[2Jalice")
    assert "\x1b" not in out
    assert "\\x1b[2Jalice" in out

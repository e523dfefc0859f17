"""Timelines and rows as text."""

import json
from datetime import UTC

from relay.cli.audit.text import print_attempts, print_row, print_timeline, timeline_json
from relay.core.ids import Ids
from relay.review.timeline import RuleText, Timeline
from relay.store.preauth_counters import AttemptCount
from tests.audit_rows import NOON, Relay, chained


def test_a_timeline_shows_the_connection_and_marks_the_chosen_row(capsys):
    """The facts of the connection first, then its rows, and the rule as it was then."""
    relay = Relay()
    alice = relay.connect()
    rows = chained([relay.login(alice), relay.opened(alice)])
    rule = RuleText("3f2a9c01b7de", "ops", "policies/main.yaml:7", "- name: ops")
    print_timeline(Timeline("x", tuple(rows), (2,), (rule,)), UTC)
    lines = capsys.readouterr().out.splitlines()
    assert "person      alice" in lines
    assert [line[0] for line in lines if "2026-10-01 12:00" in line] == [" ", ">"]
    assert "rule 'ops' at policies/main.yaml:7, policy 3f2a9c01b7de:" in lines
    assert lines[-1] == "    - name: ops"


def test_a_denial_without_a_rule_names_the_policy(capsys):
    """No rule decided: the default of that policy version did."""
    relay = Relay()
    rows = chained([relay.denied(relay.connect(), reason="no-rule")])
    print_timeline(Timeline("x", tuple(rows)), UTC)
    assert "policy 3f2a9c01b7de was in force, and no rule of it decided: no-rule" in capsys.readouterr().out


def test_a_failed_log_in_is_shown_without_its_login_name(capsys):
    """Only the length and the hash of the name are stored."""
    id = Ids(1).make(NOON)
    attempt = AttemptCount(NOON // 60_000_000, "192.0.2.0/24", "unknown-key", 3, id, "SHA256:x", "5/0a1b2c3d")
    print_attempts(Timeline(id, exact=attempt), UTC)
    out = capsys.readouterr().out
    assert "192.0.2.0/24" in out
    assert "in the minute of 2026-10-01 12:00 (UTC): 3 times" in out
    assert "the login name: 5 bytes, hash 0a1b2c3d" in out
    assert timeline_json(Timeline(id, exact=attempt))["exact"] is True


def test_a_row_is_one_line_and_as_json_one_object(capsys):
    """Nothing in a row can begin a second line."""
    relay = Relay()
    (row,) = chained([relay.denied(relay.connect("a\nb"))])
    print_row(row, UTC, as_json=False)
    assert capsys.readouterr().out.count("\n") == 1
    print_row(row, UTC, as_json=True)
    assert json.loads(capsys.readouterr().out)["person"] == "a\nb"

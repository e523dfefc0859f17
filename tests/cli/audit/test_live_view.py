"""`audit tail` on a terminal: columns that stay in line, whatever is in them."""

import os
import pty
import re
import subprocess
import sys
import unicodedata
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from relay.cli.audit.live_view import Live, fit
from relay.store.writer import FILE, AuditWriter
from tests.audit_rows import NOON, Relay, chained
from tests.audit_team import HOUR

SHANGHAI = ZoneInfo("Asia/Shanghai")


def shown(events, width=120, *, colour=False):
    """The lines of these events."""
    live = Live(SHANGHAI, lambda: width, colour=colour)
    return [line for row in chained(events) for line in live.lines(row)]


def test_a_day_in_columns():
    """A rule with the date, then one line each: when, what, who, from where, to what, how it went, id."""
    relay = Relay()
    day = relay.day()
    rule, *lines = shown(day)
    assert rule.startswith("── 2026-10-01 Thu (Asia/Shanghai) ─")
    assert len(lines) == len(day)
    opened, denied, closed = (
        next(line for line in lines if f"  {verb} " in line) for verb in ("opened", "denied", "closed")
    )
    assert opened.split()[:5] == ["20:00:03", "opened", "alice", "203.0.113.7", "remote:22"]
    assert opened.endswith(day[4].id)
    assert closed.endswith(day[4].id)  # of the forward, not of the row: one id from opening to end
    assert "deny-rule" in denied
    assert "↑1.5 kB ↓2.5 MB  1 min 01 s" in closed
    assert opened.index("remote:22") == denied.index("recorder:22") == closed.index("remote:22")


def test_midnight_is_a_rule():
    """At the site's midnight, once."""
    relay = Relay(NOON + 4 * HOUR - 3_000_000)  # three seconds before midnight in Shanghai
    lines = shown([relay.event("server.started", version="1"), *relay.day()])
    assert [line[:14] for line in lines if line.startswith("──")] == ["── 2026-10-01 ", "── 2026-10-02 "]


def test_colours_tell_what_matters():
    """Green for opened, red for denied and for an end that nobody at either side wanted, none for an ordinary end."""
    relay = Relay()
    opened = relay.opened(relay.connect())
    lines = shown(
        [opened, relay.closed(opened), relay.closed(opened, "overlay-down"), relay.denied(relay.connect())], colour=True
    )
    assert "\x1b[32mopened" in lines[1]
    assert "\x1b[2mclosed" in lines[2]
    assert "\x1b[31mclosed" in lines[3]
    assert "\x1b[31mdenied" in lines[4]


odd = st.text(max_size=60) | st.sampled_from(["王小明" * 20, "\x1b[2J" * 9, "\u202e" * 9, "x" * 300, "é" * 40])


@settings(max_examples=50)
@given(odd, odd, odd, odd, st.integers(20, 300))
def test_no_line_is_wider_than_the_window(person, asked, reason, detail, width):
    """And none holds anything that moves the cursor, however long, wide or hostile the texts are."""
    relay = Relay()
    facts = relay.connect(person, client_version=detail)
    opened = relay.opened(facts, rule=reason)
    opened.fields["asked"] = asked
    events = [
        relay.login(facts),
        opened,
        relay.closed(opened, reason, detail=detail),
        relay.denied(facts, asked, reason),
    ]
    events += [relay.refused(facts, asked), relay.event("key.revoked", person=person, why=detail)]
    for line in shown(events, width):
        assert cell_len(line) <= max(width, 64)
        assert not {unicodedata.category(letter) for letter in line} & {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


@pytest.mark.parametrize(
    ("text", "size", "found"),
    [
        ("alice", 7, "alice  "),
        ("recorder-in-the-cellar:22", 14, "record…llar:22"),
        ("王小明的服务器", 8, "王 …务器"),
        ("abcdef", 3, "abc"),
        ("abc", 0, ""),
    ],
)
def test_cut_in_the_middle(text, size, found):
    """Beginning and end tell names apart; a Chinese letter takes two columns and is never halved."""
    assert fit(text, size) == found


def test_a_pipe_gets_plain_lines_and_a_terminal_columns(tmp_path):
    """The same command; nothing but the terminal makes the difference."""
    (tmp_path / "state").mkdir()
    writer = AuditWriter(tmp_path / "state" / FILE, "relay")
    writer.append(Relay().day())
    writer.close()
    command = [sys.executable, "-m", "relay", "--site", str(tmp_path), "audit", "tail", "-n", "3"]
    environment = {**os.environ, "COLUMNS": "100", "TERM": "xterm"}
    piped = subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout
    assert re.match(r"2026-10-01 [0-9:.]+ request refused: alice ", piped.splitlines()[0])
    ours, theirs = pty.openpty()
    done = subprocess.run(command, stdout=theirs, env=environment, check=True)
    os.close(theirs)
    seen = b""
    try:
        while piece := os.read(ours, 65536):
            seen += piece
    except OSError:  # the other end is closed: everything was read
        pass
    os.close(ours)
    assert done.returncode == 0
    assert "── 2026-10-01 Thu (UTC)".encode() in seen
    assert b"\x1b[33mrefused" in seen

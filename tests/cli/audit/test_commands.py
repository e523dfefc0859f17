"""`relayctl audit` as a reviewer types it."""

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from relay.cli import group
from relay.core import ids
from relay.errors import RelayError
from relay.store.preauth_counters import AttemptCount
from relay.store.writer import FILE, AuditWriter
from tests.audit_rows import ALICE, NOON, Relay


@pytest.fixture
def site(tmp_path):
    """A site in Shanghai with an ordinary day on record; the relay is stopped."""
    site = tmp_path / "site"
    (site / "state").mkdir(parents=True)
    (site / "relay.yaml").write_text("timezone: Asia/Shanghai\n")
    writer = AuditWriter(site / "state" / FILE, "relay")
    writer.append(Relay().day())
    writer.close()
    return site


def run(site, *words, **how):
    """Output and exit status, errors told as `relayctl` tells them."""
    result = CliRunner().invoke(group, ["--site", str(site), "audit", *words], standalone_mode=True, **how)
    if isinstance(result.exception, RelayError):
        return f"{result.output}{result.exception.what}\n  {result.exception.hint}", result.exception.exit_status
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output, result.exit_code


def test_search_prints_a_table_newest_last(site):
    """Forwards told once, times in the site's zone, the id to ask `show` for."""
    output, status = run(site, "search", "--verdict", "allowed")
    assert status == 0
    heading, first, second = output.splitlines()
    assert heading.split()[:2] == ["time", "(Asia/Shanghai)"]
    assert first.startswith("2026-10-01 20:00:03   alice   203.0.113.7")
    assert "remote:22 (192.168.1.201)" in first
    assert "client-closed  1.5 kB  2.5 MB    1 min 01 s" in first
    assert "open" in second
    assert "192.168.1.50:443 " in second


def test_a_broken_zone_and_what_it_cut_read_together(site):
    """The zone, its obstacle and how long it was down; a forward that was cut says by which obstacle."""
    relay = Relay(NOON + 3_600_000_000)
    opened = relay.opened(relay.connect())
    down = relay.event("zone.down", zone="office", reason="interface-missing", detail="there is no zt0")
    closed = relay.closed(opened, "overlay-down", obstacle="interface-missing")
    writer = AuditWriter(site / "state" / FILE, "relay")
    writer.append([opened, down, closed, relay.event("zone.up", zone="office", duration=61_000_000)])
    writer.close()
    lines = run(site, "search", "--limit", "3")[0].splitlines()[1:]
    (cut,) = (line for line in lines if "remote:22" in line)
    (lost,) = (line for line in lines if "zone.down" in line)
    (back,) = (line for line in lines if "zone.up" in line)
    assert "overlay-down: interface-missing" in cut
    assert lost.split()[2:5] == ["zone.down", "office", "interface-missing"]
    assert "1 min 01 s" in back


@pytest.mark.parametrize(
    ("words", "count"),
    [
        ((), 10),
        (("--person", "bob"), 3),
        (("--key", ALICE[:14]), 5),
        (("--key", "uNiV"), 5),
        (("--target", "remote"), 1),
        (("--target", "remote:23"), None),
        (("--target", "192.168.1.50"), 1),
        (("--target", "192.168.1.50:443"), 1),
        (("--target", "::ffff:192.168.1.201"), 1),
        (("--target", "[fd00::1]:22"), None),
        (("--from", "203.0.113.0/24"), 5),
        (("--from", "203.0.113.7"), 5),
        (("--from", "2001:db8::/32"), 2),
        (("--to", "192.168.1.0/24"), 2),
        (("--since", "2026-10-01"), 10),
        (("--since", "2026-10-01T20:00:08"), 6),
        (("--since", "2026-10-02"), None),
        (("--until", "2026-10-01"), 10),
        (("--until", "2026-09-30"), None),
        (("--verdict", "denied"), 2),
        (("--event", "key.added"), 1),
        (("--text", "PUTTY"), 2),
        (("--limit", "3"), 3),
        (("--person", "alice", "--verdict", "denied", "--text", "recorder"), 1),
    ],
)
def test_search_narrows(site, words, count):
    """Every option narrows the answer; no answer is exit status 1."""
    output, status = run(site, "search", "--json", *words)
    assert status == (0 if count else 1)
    if count:
        lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        assert len(lines) == count
        assert all(line["time"].endswith("Z") for line in lines)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--person", "alise"), "did you mean 'alice'?"),
        (("--person", "zed"), "relayctl list-keys"),
        (("--since", "1h", "--until", "2h"), "--since is not before --until"),
        (("--text", "never"), "Remove an option to widen the search."),
    ],
)
def test_no_answer_says_what_to_do(site, words, said):
    """A near name, a turned-round span, or the advice to remove an option."""
    output, status = run(site, "search", *words)
    assert status == 1
    assert said in output


@pytest.mark.parametrize(
    "words",
    [
        ("--since", "tomorrow"),
        ("--from", "203.0.113"),
        ("--to", "remote"),
        ("--target", "remote:70000"),
        ("--verdict", "maybe"),
        ("--event", "forward.denyed"),
        ("--limit", "0"),
    ],
)
def test_a_wrong_question_is_wrong_usage(site, words):
    """Exit status 2, and the right form is shown."""
    output, status = run(site, "search", *words)
    assert status == 2
    assert len(output.splitlines()) > 1


@pytest.mark.parametrize(
    ("settings", "zone", "warned"),
    [
        ("timezone: 'Asia/Shanghai'  # here\n", "Asia/Shanghai", False),
        ("", "UTC", False),
        ("timezone: UTC\n", "UTC", False),
        ("timezone: Nowhere/At_All\n", "UTC", True),
        ("timezone: [broken\n", "UTC", True),
        ("timezone: ../../etc/passwd\n", "UTC", True),
    ],
)
def test_times_are_the_sites_or_said_to_be_utc(site, settings, zone, warned):
    """With a broken site searching works, and says that its times are UTC."""
    (site / "relay.yaml").write_text(settings)
    result = CliRunner().invoke(group, ["--site", str(site), "audit", "search"])
    assert f"time ({zone})" in result.stdout
    assert ("times are UTC" in result.stderr) == warned


def test_tail_prints_journal_lines(site):
    """The last events, one line each, as the service's log has them."""
    output, status = run(site, "tail", "-n", "2")
    assert status == 0
    closed, gone = output.splitlines()
    assert closed.startswith("2026-10-01 20:00:12.000 forward closed: alice SHA256:")
    assert "connection closed: alice" in gone
    output, _ = run(site, "tail", "--json", "--verdict", "denied")
    assert [json.loads(line)["event"] for line in output.splitlines()] == ["forward.denied", "request.refused"]


def test_colour_is_for_terminals_that_want_it(site, monkeypatch):
    """Colours on a terminal; none in a pipe, none with NO_COLOR."""
    assert "\x1b[" in run(site, "tail", color=True)[0]
    assert "\x1b[" not in run(site, "tail")[0]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in run(site, "tail", color=True)[0]


@pytest.mark.parametrize("lines", [0, 1, 4])
def test_tail_resumes_after_a_kill(site, tmp_path, lines):
    """Killed after any line, `tail --resume` prints every row in the two runs together, each as a whole JSON line."""
    words = [sys.executable, "-m", "relay", "--site", site, "audit", "tail", "--follow", "--json"]
    words += ["--resume", tmp_path / "resume"]
    events = tmp_path / "events.jsonl"
    wanted = len(json_lines(run(site, "tail", "-n", "1000", "--json")[0]))
    for stop_at in (lines, wanted):
        with events.open("ab") as output, subprocess.Popen(words, stdout=output) as tail:
            deadline = time.monotonic() + 30
            while len({row["seq"] for row in json_lines(events.read_text())}) < stop_at:
                assert time.monotonic() < deadline, events.read_text()
                assert tail.poll() is None
                time.sleep(0.02)
            tail.kill()
        with events.open("ab") as output:
            output.write(b'{"seq": 1, "ha')  # a line that a crash cut short
    assert {row["seq"] for row in json_lines(events.read_text())} == set(range(1, wanted + 1))


def json_lines(text):
    """The lines of `text` that are valid JSON."""
    found = []
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return found


def test_resume_is_for_following_as_json(site):
    """--resume without --follow and --json is a usage error that says what it needs."""
    output, status = run(site, "tail", "--resume", "x")
    assert status == 2
    assert "--resume needs --follow and --json" in output


def test_tail_follows_a_running_relay(site):
    """`tail -f` shows a row that is written after it began, and ends on an interrupt."""
    words = [sys.executable, "-m", "relay", "--site", site, "audit", "tail", "-f", "-n", "1", "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as tail:
        assert json.loads(tail.stdout.readline())["event"] == "connection.closed"
        writer, relay = AuditWriter(site / "state" / FILE, "relay"), Relay(10**15 * 2)
        denied = relay.denied(relay.connect())
        writer.append([denied])
        assert json.loads(tail.stdout.readline())["id"] == denied.id
        writer.close()
        tail.send_signal(signal.SIGINT)
        assert tail.wait(20) == 130
        assert "Traceback" not in tail.stderr.read()


def test_show_tells_a_connection(site):
    """Who, from where, each row marked that the id names, the rule that decided, as it stood then."""
    history = site / "state" / "applied" / "history"
    history.mkdir(parents=True)
    text = "\n" * 6 + "  - {name: ops reach the office by ssh}\n  - {name: other}\n"
    (history / "3f2a9c01b7de.jsonl").write_text(json.dumps(["text", "policies/main.yaml", text]) + "\n")
    forward = Relay().day()[4].id
    output, status = run(site, "show", forward)
    assert status == 0
    assert "person      alice\n" in output
    assert "key ends    never\n" in output
    assert "times are Asia/Shanghai\n" in output
    assert [line[2:12] for line in output.splitlines() if line.startswith("> ")] == ["2026-10-01"] * 2
    assert "rule 'ops reach the office by ssh' at policies/main.yaml:7, policy 3f2a9c01b7de:\n" in output
    assert output.endswith("    - {name: ops reach the office by ssh}\n")
    shown = json.loads(run(site, "show", forward, "--json")[0])
    assert (shown["chosen"], len(shown["rows"])) == ([5, 10], 6)


def test_show_tells_which_policy_refused(site):
    """The id in a refused person's error text: its row is marked, with the policy version in force, and the reason."""
    day = Relay().day()
    output, status = run(site, "show", day[7].id.upper())
    assert status == 0
    (marked,) = (line for line in output.splitlines() if line.startswith("> "))
    assert "forward denied: alice" in marked
    assert "policy 3f2a9c01b7de was in force, and no rule of it decided: deny-rule\n" in output
    assert "no rule of it decided" not in run(site, "show", day[4].id)[0]


def test_show_tells_a_strangers_reference(site):
    """The exact last attempt, or the counts of its minute."""
    relay = Relay(NOON + 3_600_000_000)
    first, second = relay.id(), relay.id()
    minute = ids.made_at(first) // 60_000_000
    writer = AuditWriter(site / "state" / FILE, "relay")
    writer.strangers([AttemptCount(minute, "198.51.100.0/24", "unknown-key", 7, second, "SHA256:x", "4/00aa11bb")])
    writer.close()
    id_of_nobody = relay.id()
    output, status = run(site, "show", id_of_nobody)
    assert status == 0
    assert "198.51.100.0/24" in output
    writer = AuditWriter(site / "state" / FILE, "relay")
    writer.strangers([AttemptCount(minute, "198.51.100.0/24", "unknown-key", 1, id_of_nobody)])
    writer.close()
    output, status = run(site, "show", id_of_nobody)
    assert status == 0
    assert "8 times" in output
    assert "relayctl add-key" in output
    assert "4 bytes, hash 00aa11bb" in output
    assert json.loads(run(site, "show", id_of_nobody, "--json")[0])["exact"]


def test_show_of_an_id_made_just_now(site):
    """A stranger calls at once: the counters are some seconds behind, and the answer says so."""
    output, status = run(site, "show", ids.Ids(1).make(time.time_ns() // 1000))
    assert status == 1
    assert "known here after some seconds: try again" in output


def test_show_of_nothing_names_the_nearest(site):
    """An unknown id: exit status 1, when it would have been made, and the nearest there is."""
    forward = Relay().day()[4].id
    output, status = run(site, "show", forward[:-1] + ("z" if forward[-1] != "z" else "y"))
    assert status == 1
    assert "the audit log has no id" in output
    assert f"relayctl audit show {forward}" in output
    output, status = run(site, "show", "nonsense\x1b[2J")
    assert status == 1
    assert "\x1b" not in output


def test_no_database_is_said_with_the_cure(tmp_path):
    """Before the first start there is nothing to read, and that is said."""
    tmp_path.chmod(0o755)
    output, status = run(tmp_path, "search")
    assert status == 1
    assert "relayctl serve" in output


def test_a_strangers_text_moves_no_cursor(site):
    """Whatever a client sent, table, tail and show print it as harmless text."""
    relay = Relay(10**15 * 2)
    nasty = "\x1b[2J\x1b]0;x\x07\r\n\u202egood\u2028" + "A" * 900
    connection = relay.connect(login=nasty, client_version=nasty)
    denied = relay.denied(connection, nasty, detail=nasty, reason=nasty)
    writer = AuditWriter(site / "state" / FILE, "relay")
    writer.append([relay.login(connection), denied, relay.refused(connection, nasty)])
    writer.close()
    for words in (("search",), ("search", "--json"), ("tail",), ("show", denied.id), ("show", denied.id, "--json")):
        output, status = run(site, *words)
        assert status == 0
        assert all(line.isprintable() for line in output.splitlines())
        assert not set(output) & set("\x1b\x07\r\u202e\u2028")


def test_a_reader_that_goes_away_is_no_error(site):
    """`audit search | head -1` ends quietly."""
    words = f"{sys.executable} -m relay --site {site} audit tail -n 1000 --json | head -1"
    done = subprocess.run(
        ["sh", "-c", words], capture_output=True, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    assert (len(done.stdout.splitlines()), done.stderr) == (1, "")


def test_csv_is_for_spreadsheets_and_runs_nothing(site):
    """The same columns for every line, a stranger's text as text: no formula, no line of its own."""
    relay = Relay(10**15 * 2)
    nasty = '=HYPERLINK("http://x")'
    denied = relay.denied(relay.connect(client_version=nasty), "@SUM(A1)\r\n", detail="-1+1", reason="+x", count=-5)
    writer = AuditWriter(site / "state" / FILE, "relay")
    writer.append([denied])
    writer.close()
    output, status = run(site, "search", "--format", "csv")
    assert status == 0
    lines = list(csv.DictReader(output.splitlines()))
    assert len(lines) == 11
    first = next(line for line in lines if line["outcome"] == "client-closed")
    assert (first["person"], first["asked"], first["sent"], first["duration"]) == (
        *("alice", "remote:22", "1500", "61000000"),
    )
    assert (first["time"], first["ended"]) == ("2026-10-01T12:00:03.000000Z", "2026-10-01T12:00:12.000000Z")
    last = lines[-1]
    assert last["client_version"] == "'" + nasty
    assert (last["asked"], last["detail"]) == ("'@SUM(A1)\\x0d\\x0a", "'-1+1")
    assert None not in last


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (("--group-by", "person"), ["alice 1 2 6 1.5 kB 2.5 MB 1 min 01 s", "bob 1 0 3", "all 2 2 9"]),
        (("--group-by", "person", "--order", "denied", "--top", "1"), ["alice 1 2 6", "all 2 2 2 9"]),
        (("--group-by", "key", "--person", "bob"), ["SHA256:2BZ6Pk4cUp0QrKXrbVvPjDyRKtS2tr0bJ1jUTkHUbxE bob 1 0 3"]),
        (("--group-by", "client", "--verdict", "allowed"), ["203.0.113.7 1 0 2", "2001:db8::7 1 0 1"]),
        (
            ("--group-by", "target"),
            ["192.168.1.201:22 office 1 0 2", "192.168.1.50:443 office 1 0 1", "recorder:22 0 1"],
        ),
        (("--group-by", "day"), ["2026-10-01 2 2 11"]),
        (("--group-by", "person", "--text", "PuTTY"), ["bob 1 0 2", "all 1 0 2"]),
    ],
)
def test_search_adds_up(site, words, lines):
    """Who did how much, the most first, days in their order, and what all of it comes to."""
    output, status = run(site, "search", *words)
    assert status == 0
    shown = [" ".join(line.split()) for line in output.splitlines()[1:]]
    assert len(shown) >= len(lines)
    for begin in lines:
        assert any(line.startswith(begin) for line in shown), (begin, shown)
    assert shown[-1].startswith("all")
    parsed = [json.loads(line) for line in run(site, "search", *words, "--format", "json")[0].splitlines()]
    assert len(parsed) == len(shown) - 1
    assert all(line["first"].endswith("Z") for line in parsed)
    assert len(list(csv.DictReader(run(site, "search", *words, "--format", "csv")[0].splitlines()))) == len(parsed)


def test_days_are_the_sites(site):
    """A row after Shanghai's midnight is of the next day, and --top of days are the last ones."""
    relay = Relay(NOON + 5 * 3_600_000_000)
    writer = AuditWriter(site / "state" / FILE, "relay")
    writer.append([relay.opened(relay.connect())])
    writer.close()
    output, _ = run(site, "search", "--group-by", "day", "--format", "csv")
    assert [line.split(",")[0] for line in output.splitlines()] == ["day", "2026-10-01", "2026-10-02"]
    output, _ = run(site, "search", "--group-by", "day", "--top", "1", "--format", "csv")
    assert [line.split(",")[0] for line in output.splitlines()] == ["day", "2026-10-02"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--top", "3"), "needs --group-by"),
        (("--order", "bytes"), "needs --group-by"),
        (("--group-by", "person", "--limit", "3"), "--top counts groups"),
        (("--json", "--format", "csv"), "exclude each other"),
        (("--group-by", "hour"), "'hour' is not one of"),
    ],
)
def test_options_that_do_not_go_together(site, words, said):
    """Wrong usage, with what to type instead."""
    output, status = run(site, "search", *words)
    assert (status, said in output) == (2, True), output


def test_what_is_not_utf_8_is_a_wrong_question(site):
    """A terminal in another encoding: it is said, or nothing is found, and no traceback is shown."""
    output, status = run(site, "search", "--text", "caf\udce9")
    assert (status, "is not UTF-8" in output) == (2, True)
    output, status = run(site, "show", "caf\udce9")
    assert (status, "Traceback" in output) == (1, False)

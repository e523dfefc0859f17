"""`relayctl audit report` and `digest` as a reviewer types them."""

import contextlib
import json
import os
import sqlite3
import stat
import sys
import time

import pytest

from relay.store.writer import FILE, AuditWriter
from tests.audit_rows import NOON, Relay
from tests.audit_team import DAY, HOUR, Team
from tests.audit_team import site as team_site
from tests.store import archived

NOW = NOON + 60 * DAY + 4 * HOUR + 1_000_000  # 2026-11-30T16:00:01Z: in Shanghai a new day and a new month


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """The commands run at NOW, whatever the hour and the date."""
    monkeypatch.setattr(time, "time_ns", lambda: NOW * 1000)


@pytest.fixture(scope="module")
def team(tmp_path_factory):
    """A team's site with sixty days on record up to NOW."""
    path = tmp_path_factory.mktemp("team") / "site"
    path.mkdir(mode=0o750)
    team_site(path, NOW)
    writer = AuditWriter(path / "state" / FILE, "relay")
    writer.append(list(Team(NOW, days=60, forwards=600).events()))
    writer.close()
    return path


def test_the_page_is_written_for_its_owner_only(relayctl, team, tmp_path):
    """Mode 0600, whole, with what is unused and the line that removes it; a second call replaces it in one step."""
    out = tmp_path / "report.html"
    old = os.umask(0)
    try:
        done = relayctl("--site", team, "audit", "report", "--out", out)
    finally:
        os.umask(old)
    assert (done.returncode, done.stdout) == (0, "")
    assert "forwards of" in done.stderr
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    html = out.read_text()
    assert html.startswith("<!doctype html>")
    assert f"rm {team}/keys/wendy.pub" in html
    assert "web-01" in html  # as the policy calls it
    first = out.stat().st_ino
    assert relayctl("--site", team, "audit", "report", "--out", out, "--lang", "zh").returncode == 0
    assert "谁访问了什么" in out.read_text()
    assert out.stat().st_ino != first
    assert os.listdir(tmp_path) == ["report.html"]


def test_a_dash_is_stdout(relayctl, team):
    """For a pipe into a mail or a web server's directory."""
    done = relayctl("--site", team, "audit", "report", "--out", "-", "--since", "7d")
    assert done.stdout.startswith("<!doctype html>")
    assert done.stdout.endswith("</html>\n")


@pytest.mark.parametrize("kind", ["file", "link", "pipe"])
def test_nothing_else_is_written_over(relayctl, team, tmp_path, kind):
    """A file that is no page of ours, a symbolic link (to a page, even), a pipe: refused before any work is done."""
    out, other = tmp_path / "notes.txt", tmp_path / "page.html"
    if kind == "file":
        out.write_text("mine")
    elif kind == "link":
        assert relayctl("--site", team, "audit", "report", "--since", "1d", "--out", other).returncode == 0
        out.symlink_to(other)
    else:
        os.mkfifo(out)
    before = other.read_bytes() if other.exists() else b""
    done = relayctl("--site", team, "audit", "report", "--out", out)
    assert done.returncode == 1
    assert "is no page that you made" in done.stderr
    assert "--out FILE" in done.stderr
    assert kind != "file" or out.read_text() == "mine"
    assert (other.read_bytes() if other.exists() else b"") == before


def test_a_directory_gets_the_usual_name_and_a_missing_one_is_said(relayctl, team, tmp_path):
    """`--out /var/www/reports` makes report.html there."""
    assert relayctl("--site", team, "audit", "report", "--since", "1d", "--out", tmp_path).returncode == 0
    assert (tmp_path / "report.html").exists()
    done = relayctl("--site", team, "audit", "report", "--since", "1d", "--out", tmp_path / "none" / "report.html")
    assert (done.returncode, "No such file" in done.stderr) == (1, True)


def test_without_the_plotting_library_it_says_what_to_install(relayctl, team, monkeypatch):
    """And that the digest needs nothing; the digest indeed works."""
    for name in [
        name for name in sys.modules if name.startswith("relay.review.report.") or name.partition(".")[0] == "pygal"
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pygal", None)
    done = relayctl("--site", team, "audit", "report", "--out", "-")
    assert done.returncode == 1
    assert "pip install 'ssh-jump-relay[report]'" in done.stderr
    assert relayctl("--site", team, "audit", "digest").returncode == 0


def test_the_digest_tells_what_happened_and_what_tells_more(relayctl, team):
    """The grave things first and marked; each command works as it stands there."""
    done = relayctl("--site", team, "audit", "digest")
    lines = done.stdout.splitlines()
    assert done.returncode == 0
    assert lines[0].startswith("relay: news from ")
    assert lines[0].endswith("(Asia/Shanghai)")
    assert lines[1].startswith("! mallory was denied ")
    assert "  a key of mallory was revoked by root-wang: stolen" in lines
    assert "  the rule the contractor of last year ends in 5 days (policies/office.yaml:53-57)" in lines
    assert "  huang-li was here for the first time" in lines
    commands = [line.strip() for line in lines[2::2]]
    assert all(command.startswith(f"relayctl --site {team} ") for command in commands)
    for command in commands[:3]:
        assert relayctl(*command.split()[1:]).returncode == 0, command


def test_the_digest_for_programs_and_scripts(relayctl, team):
    """--json is an object, --exit-code is 1 when there is news."""
    done = relayctl("--site", team, "audit", "digest", "--json", "--exit-code")
    told = json.loads(done.stdout)
    assert done.returncode == 1
    assert told["since"] < told["until"]
    assert {"kind", "grave", "text", "command"} == set(told["news"][0])
    chinese = relayctl("--site", team, "audit", "digest", "--lang", "zh").stdout
    assert "! mallory 一分钟内尝试了 60 个不同的目标" in chinese


def test_an_ordinary_week_is_silent_and_a_changed_row_is_not(relayctl, tmp_path):
    """Nothing on stdout and stderr, exit status 0 even with --exit-code: no mail. A fault of the log is news."""
    (tmp_path / "state").mkdir()
    relay = Relay(NOW - 20 * DAY)
    alice = relay.connect()
    usual = [relay.login(alice), relay.opened(alice)]
    relay.now += 18 * DAY
    usual += [relay.login(alice), relay.opened(alice), relay.denied(alice)]
    writer = AuditWriter(tmp_path / "state" / FILE, "relay")
    writer.append(usual)
    writer.close()
    done = relayctl("--site", tmp_path, "audit", "digest", "--exit-code")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    with contextlib.closing(sqlite3.connect(tmp_path / "state" / FILE)) as database:
        database.execute("UPDATE events SET time = time + 1 WHERE seq = 2")
        database.commit()
    done = relayctl("--site", tmp_path, "audit", "digest", "--exit-code")
    assert done.returncode == 1
    assert "! the log has a fault at row 2: " in done.stdout
    assert f"relayctl --site {tmp_path} audit verify" in done.stdout
    assert relayctl("--site", tmp_path, "audit", "digest", "--no-verify").stdout == ""
    page = relayctl("--site", tmp_path, "audit", "report", "--out", "-").stdout
    assert "integrity (no row was changed): fault" in page
    assert "was not verified" not in page
    assert "was not verified" in relayctl("--site", tmp_path, "audit", "report", "--no-verify", "--out", "-").stdout


def test_a_window_may_reach_into_archives(relayctl, tmp_path):
    """The same sums before and after half of the rows went into an archive; the page says where comparing begins."""
    (tmp_path / "state").mkdir()
    archived.fill(tmp_path / "state", 4)
    words = ("--site", tmp_path, "audit", "report", "--since", "2026-09-30", "--out")
    before = relayctl(*words, tmp_path / "a.html").stderr
    assert "8 forwards of 2 people" in before
    assert archived.archive(tmp_path / "state", NOON + 2 * archived.HOUR)
    after = relayctl(*words, tmp_path / "b.html").stderr
    assert after == before.replace("a.html", "b.html")
    assert "audit.archived" in (tmp_path / "b.html").read_text()
    late = relayctl("--site", tmp_path, "audit", "report", "--since", "2026-10-01T14:30Z", "--out", "-").stdout
    assert "Compared with everything in the log before, which begins 2026-10-01 14:00." in late


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--since", "soon"), "'soon' is not a time"),
        (("--since", "yesterday", "--until", "2026-01-01"), "--since is not before --until"),
        (("--since", "2199-01-01"), "yet to come"),
    ],
)
def test_a_window_that_is_none_is_wrong_usage(relayctl, team, words, said):
    """Exit status 2, and what would be right."""
    for command in ("report", "digest"):
        done = relayctl("--site", team, "audit", command, *words)
        assert done.returncode == 2
        assert said in done.stderr


def test_an_empty_log_says_so(relayctl, tmp_path):
    """Rather than a page of nothing."""
    (tmp_path / "state").mkdir()
    AuditWriter(tmp_path / "state" / FILE, "relay").close()
    done = relayctl("--site", tmp_path, "audit", "report", "--out", "-")
    assert done.returncode == 1
    assert "nothing in the audit log yet" in done.stderr


def test_a_damaged_snapshot_costs_what_is_unused_only(relayctl, team, tmp_path):
    """The page is made all the same, and says what it does not know."""
    site = tmp_path / "site"
    (site / "state" / "applied").mkdir(parents=True)
    os.link(team / "state" / FILE, site / "state" / FILE)
    (site / "state" / "applied" / "current.jsonl").write_text("{")
    done = relayctl("--site", site, "audit", "report", "--since", "3d", "--out", "-")
    assert done.returncode == 0
    assert "what is unused is not known" in done.stderr
    assert "The running configuration cannot be read" in done.stdout

"""bench/compare.py: a figure is judged by its goal and by who is better, and the whole comparison still runs."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.figures import Goal, Table, at_least, at_most, no_less, no_more, plus

PROGRAM = Path(__file__).parents[2] / "bench" / "compare.py"
SSHD: Any = SimpleNamespace(name="sshd")
RELAY: Any = SimpleNamespace(name="relay")


@pytest.mark.parametrize(
    ("goal", "sshd", "good", "bad"),
    [
        (at_most(0.75), 2.0, 1.5, 1.51),
        (at_least(1.3), 100.0, 130.0, 129.9),
        (plus(0.5, "a sync"), 0.6, 1.1, 1.11),
        (no_more(10, "ms"), None, 10.0, 10.1),
        (no_less(2000, "a second"), None, 2000.0, 1999.0),
    ],
)
def test_a_goal_judges_medians(goal: Goal, sshd: float | None, good: float, bad: float) -> None:
    """At the goal is reached, a little beyond is missed, one outlier of three runs decides nothing."""
    for value, verdict in ((good, "pass"), (bad, "MISS")):
        table = Table()
        for run in (value, value, value * 100):
            table.add(RELAY, "figure", run, goal=goal)
        if sshd is not None:
            table.add(SSHD, "figure", sshd)
        assert table["figure"].verdict() == verdict
        assert table.lines()[-1].split("|")[-2].strip() == verdict


def test_what_was_not_measured_is_neither_reached_nor_better() -> None:
    """A figure that the kernel hides says so, and no goal is counted as reached by it."""
    table = Table()
    table.add(SSHD, "memory", None, goal=at_most(1))
    table.add(RELAY, "memory", 5.0)
    assert (table["memory"].verdict(), table["memory"].better()) == ("", "")
    assert table.lines()[-1].startswith("| memory | not readable | 5.00 |")
    assert not any("Goals" in line for line in table.verdicts())


def test_who_is_better_is_said_only_beyond_the_noise() -> None:
    """More is better or less is; what the spread of the runs explains is even."""
    table = Table()
    runs = {"speed": ([100, 104, 90], [150, 160, 155]), "CPU": ([1.0, 1.1, 0.9], [2.0, 2.1, 1.9])}
    runs["wait"] = ([1.0, 1.3, 0.9], [1.1, 1.2, 0.95])
    for name, (sshd, relay) in runs.items():
        for jump, values in ((SSHD, sshd), (RELAY, relay)):
            for value in values:
                table.add(jump, name, value, more=name == "speed", goal=at_most(1) if name == "CPU" else None)
    assert [table[name].better() for name in runs] == ["relay", "sshd", "even"]
    assert "**Goals**: 0 of 1 reached. Missed: CPU (2.00)." in table.verdicts()


@pytest.mark.slow
@pytest.mark.system
def test_the_comparison_runs(tmp_path: Path) -> None:
    """With the least of everything: each figure has both medians, each goal its verdict; the page keeps its text."""
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- beside begins -->\nold\n<!-- beside ends -->\nafter\n")
    command = [sys.executable, str(PROGRAM), "--least", "--beside", "--write", str(page)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    assert text.startswith("before\n<!-- beside begins -->\n- machine: ")
    assert text.endswith("<!-- beside ends -->\nafter\n")
    assert "old\n" not in text
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    figures = [row for row in rows if len(row) == 7][2:]
    assert len(figures) > 25
    for name, sshd, relay, _, _, goal, verdict in figures:
        assert sshd, name
        assert relay, name
        assert (verdict in ("pass", "MISS")) == bool(goal), name
    assert sum(bool(row[5]) for row in figures) == 18
    floors = [row[0] for row in rows if len(row) == 5][2:]
    assert floors == [f"{way}, aes{bits}-gcm" for way in ("down", "up") for bits in (128, 256)]

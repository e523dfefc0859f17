"""bench/compare.py: how a figure is compared in words, and that the whole comparison still runs."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.figures import Table

PROGRAM = Path(__file__).parents[2] / "bench" / "compare.py"
SSHD: Any = SimpleNamespace(name="sshd")
RELAY: Any = SimpleNamespace(name="relay")


def test_a_figure_that_was_not_measured_is_not_compared() -> None:
    """A figure that the kernel hides is marked as such, and no comparison is made."""
    table = Table()
    table.add(SSHD, "memory", None)
    table.add(RELAY, "memory", 5.0)
    assert table["memory"].comparison() == ""
    assert table.lines()[-1].startswith("| memory | not readable | 5.00 |")


@pytest.mark.parametrize(
    ("name", "more", "sshd", "relay", "words"),
    [
        ("throughput", True, [100, 104, 90], [150, 160, 155], "faster"),
        ("throughput", True, [150, 160, 155], [100, 104, 90], "slower"),
        ("wait p50", False, [1.0], [0.9], "faster"),
        ("wait p50", False, [1.0], [1.06], "slower"),
        ("wait p50", False, [1.0], [1.04], "even"),
        ("CPU of a log-in", False, [1.0, 1.1, 0.9], [2.0, 2.1, 1.9], "more"),
        ("memory", False, [2.0], [1.0], "less"),
        ("CPU at rest", False, [0.0], [1.0], "more"),
        ("wait", False, [1.0, 1.3, 0.9], [1.1, 1.2, 0.95], "even"),
        ("wait p99", False, [1.0, 1.3, 0.9], [1.2, 1.4, 1.25], "even"),
        ("wait", False, [1.0, 1.3, 0.9], [1.2, 1.4, 1.25], "slower"),
    ],
)
def test_a_comparison_beyond_the_noise_is_said_in_words(
    name: str, more: bool, sshd: list[float], relay: list[float], words: str
) -> None:
    """Faster or slower, less or more; what the spread of the runs explains is even."""
    table = Table()
    for jump, values in ((SSHD, sshd), (RELAY, relay)):
        for value in values:
            table.add(jump, name, value, more=more)
    assert table[name].comparison() == words


@pytest.mark.slow
@pytest.mark.system
def test_the_comparison_runs(tmp_path: Path) -> None:
    """With the least work: each figure has both medians and a comparison; the page keeps the text around it."""
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- beside begins -->\nold\n<!-- beside ends -->\nafter\n")
    command = [sys.executable, str(PROGRAM), "--least", "--beside", "--write", str(page)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    assert text.startswith("before\n<!-- beside begins -->\n- machine: ")
    assert text.endswith("<!-- beside ends -->\nafter\n")
    assert "old\n" not in text
    tables = "\n".join(lines for lines in text.splitlines() if lines.startswith("|")).split("|---|---|---|---|---|\n")
    figures = [[cell.strip() for cell in line.split("|")[1:-1]] for line in tables[1].splitlines()[:-1]]
    assert len(figures) > 25
    for name, sshd, relay, _, words in figures:
        assert sshd, name
        assert relay, name
        assert words in ("faster", "slower", "less", "more", "even", ""), name
    floors = [line.split("|")[1].strip() for line in tables[2].splitlines()]
    assert floors == [f"{way}, aes{bits}-gcm" for way in ("down", "up") for bits in (128, 256)]

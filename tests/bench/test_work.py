"""Bounds of the worker's work for a packet, a key stroke and a log-in, as counted by bench/work.py.

Counts are the same on every machine: one more copy, packet, system call or call for each 32 KiB exceeds a bound.
Tighten the bounds when the work gets less (`python bench/work.py` prints the table).
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.counting import Count

PROGRAM = Path(__file__).parents[2] / "bench" / "work.py"

# For each 32 KiB, key stroke with its echo, log-in with a forward. Bytecodes are those of 3.11; later ones have fewer.
BOUNDS = {
    "down": {"calls": 6.5, "bytecodes": 125, "system": 0.7, "packets": 1.1, "copies": 0.9},
    "up": {"calls": 9.9, "bytecodes": 185, "system": 0.35, "packets": 0.1, "copies": 0.8},
    "stroke": {"calls": 85.5, "bytecodes": 1490, "system": 5, "packets": 1},
    "log-in": {"calls": 2300, "bytecodes": 29_000, "system": 43},
}


def work(*options: str) -> dict[str, dict[str, float]]:
    """The figures of bench/work.py, run in a process of its own because of its malloc settings."""
    command = [sys.executable, str(PROGRAM), "--json", "--rounds", "3", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, float]] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, float]]:
    """The figures of the present code."""
    return work()


@pytest.mark.slow
def test_no_work_was_added(found: dict[str, dict[str, float]]) -> None:
    """Every figure is within its bound, and every figure has one."""
    assert {what: set(figures) for what, figures in found.items()} == {what: set(of) for what, of in BOUNDS.items()}
    for _ in range(
        3
    ):  # on a busy machine a read finds less than there is otherwise; work that was added is there always
        over = [
            f"{what}: {found[what][name]:g} {name}, at most {bound:g}"
            for what, bounds in BOUNDS.items()
            for name, bound in bounds.items()
            if found[what][name] > bound
        ]
        if not over:
            return
        again = work()
        found = {what: {name: min(of[name], again[what][name]) for name in of} for what, of in found.items()}
    pytest.fail("; ".join(over))


@pytest.mark.slow
def test_a_copy_more_would_be_seen(found: dict[str, dict[str, float]]) -> None:
    """With sockets that copy all data, exactly one more copy is counted in each direction."""
    more: dict[str, float] = {}
    for _ in range(3):  # on a busy machine a read ends within a packet, whose beginning is copied then
        copying = work("--copying")
        assert set(copying) == {"down", "up"}
        more = {way: figures["copies"] - found[way]["copies"] for way, figures in copying.items()}
        if more == pytest.approx({"down": 1, "up": 1}, abs=0.2):
            return
        found = work()
    pytest.fail(f"copies more than before: {more}")


def test_what_is_counted(tmp_path: Path) -> None:
    """Calls, system calls and bytecodes are counted in the given files only."""
    spaces: dict[str, dict[str, Any]] = {"ours": {}, "theirs": {}}
    for name, space in spaces.items():
        text = "import os\ndef inner():\n    return os.urandom(4)\ndef outer():\n    return inner(), len('abc')\n"
        exec(compile(text, str(tmp_path / name / "code.py"), "exec"), space)
    with Count([str(tmp_path / "ours")]) as count:
        spaces["theirs"]["outer"]()
        spaces["ours"]["outer"]()
    assert (count.calls, count.system) == (4, 1)  # outer, inner, urandom, len
    with Count([str(tmp_path / "ours")], bytecodes=True) as count:
        spaces["theirs"]["outer"]()
        theirs = count.bytecodes
        spaces["ours"]["outer"]()
    assert theirs == 0
    assert 10 <= count.bytecodes <= 40  # 27 with Python 3.11

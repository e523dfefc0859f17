"""Benchmark of `relayctl audit search` on a year of a million forwards, without its start-up.

Run: python bench/search.py [--directory DIR] [--forwards N]. The year is made once and kept with --directory.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.year import GONE, OFF_LIMITS, Year
from relay.store.writer import FILE, AuditWriter

GOAL_MS = 300.0
SECONDS = 10.0  # for a sum over everything
QUESTIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("one person, last week", ("--person", "person7", "--since", "7d")),
    ("one person, ever", ("--person", "person7")),
    ("a job that is every sixth row, last week", ("--person", "ansible", "--since", "7d")),
    ("a person who left a year ago", ("--person", GONE)),
    ("a person nobody knows", ("--person", "nobody")),
    ("who reached 192.168.1.50", ("--target", "192.168.1.50", "--verdict", "allowed")),
    ("the same, in one week of last spring", ("--target", "192.168.1.50", "--since", "200d", "--until", "193d")),
    ("a host by name", ("--target", "host321")),
    ("all denials", ("--verdict", "denied")),
    ("all denials from a network", ("--from", "203.0.113.0/24", "--verdict", "denied")),
    ("all denials of a person", ("--person", "ansible", "--verdict", "denied")),
    (
        "all denials from one address, a year ago",
        ("--from", "203.0.113.0/28", "--verdict", "denied", "--until", "300d"),
    ),
    ("a person at a host", ("--person", "person7", "--target", OFF_LIMITS)),
    ("a rare text", ("--text", "192.168.9.77")),
    ("a text in every row", ("--text", "openssh")),
    ("a text in one row of a hundred", ("--text", "target-silent")),
    ("a text that nobody has said", ("--text", "nobody has said this")),
    ("a text, of a person", ("--text", "off limits", "--person", "person7")),
    ("the newest hundred", ()),
    ("a day of last autumn", ("--since", "60d", "--until", "59d")),
)
SUMS: tuple[tuple[str, ...], ...] = tuple(("--group-by", by) for by in ("person", "target", "key", "client", "day"))


def make(state: Path, forwards: int) -> None:
    """The year, up to now."""
    state.mkdir(parents=True)
    writer = AuditWriter(state / FILE, "bench")
    group: list = []
    begin, rows = time.perf_counter(), 0
    for events in Year(forwards, time.time_ns() // 1000).events():
        group += events
        if len(group) > 20_000:
            writer.append(group)
            rows += len(group)
            group = []
    writer.append(group)
    writer.close()
    took, size = time.perf_counter() - begin, (state / FILE).stat().st_size
    print(
        f"made {rows + len(group):,} rows in {took:.0f} s: {size / forwards:.0f} bytes a forward, all events together"
    )


def run(site: Path, words: tuple[str, ...]) -> tuple[float, int]:
    """Milliseconds of the command, and the lines it printed."""
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-P", "-m", "relay", "--site", site, "audit", *words], capture_output=True, text=True
    )
    took = (time.perf_counter() - begin) * 1000
    if done.returncode > 1:
        raise SystemExit(done.stderr)
    return took, len(done.stdout.splitlines())


def main() -> None:
    """Print the table; exit status 1 when a figure is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, help="where the year is kept (default: nowhere)")
    parser.add_argument("--forwards", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=5, help="each question is asked so often; the median counts")
    options = parser.parse_args()
    missed = 0
    with tempfile.TemporaryDirectory() as temporary:
        site = options.directory or Path(temporary) / "site"
        if not (site / "state" / FILE).exists():
            make(site / "state", options.forwards)
            site.chmod(0o755)
        start = statistics.median(
            run(site, ("search", "--limit", "1", "--since", "1s"))[0] for _ in range(options.times)
        )
        print(f"start-up (a question about the last second): {start:.0f} ms; the times below are without it\n")
        for label, words in QUESTIONS:
            runs = [run(site, ("search", *words)) for _ in range(options.times)]
            took = max(statistics.median(took for took, _ in runs) - start, 0.0)
            missed += took > GOAL_MS
            print(f"{label:<42} {took:8.0f} ms {'pass' if took <= GOAL_MS else 'MISS'}  {runs[0][1]} lines")
        for words in SUMS:
            took, lines = run(site, ("search", *words))
            missed += took > SECONDS * 1000
            label = f"{' '.join(words)}, everything"
            print(f"{label:<42} {took - start:8.0f} ms {'pass' if took <= SECONDS * 1000 else 'MISS'}  {lines} lines")
    sys.exit(missed > 0)


if __name__ == "__main__":
    main()

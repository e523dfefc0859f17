"""How does this relay compare with OpenSSH's sshd as a jump host, on this machine, now?

    python bench/compare.py [--quick] [--write docs/benchmarks.md]

Both run side by side on 127.0.0.1 and are measured in turns with real ssh clients; prints a Markdown table.
Takes about five minutes, --quick under two. Every process that it starts ends with it.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import jumphosts
import machine
import measures
from jumphosts import JumpHost
from processes import Started

BEGIN, END = "<!-- compare.py begins -->", "<!-- compare.py ends -->"
EVEN = 0.05  # a ratio nearer to 1 than this is called even, and so is one that the runs' spread explains
NOISE, NOISE_P99 = 0.15, 0.30  # what sshd differs by from a second sshd, measured with this script
QUIET = 0.7  # a load above this before anything is measured: others compete for the cores
BUSY = (
    "- **others used the machine at the same time**: throughput and latencies are worse for both than on a quiet one, "
    "and their ratios rough; CPU per GB, log-ins per CPU second and memory bear it better"
)


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    bytes: int = 256 << 20
    runs: int = 5
    logins: int = 100
    people: tuple[int, ...] = (0, 20, 200)
    seconds: float = 8.0  # of echoes, each time
    setups: int = 200


QUICK = Size(bytes=128 << 20, runs=3, logins=30, people=(0, 20), seconds=3.0, setups=60)


@dataclass(slots=True)
class Figure:
    """One line of the table: per jump host the values of its runs."""

    name: str
    more_is_better: bool
    digits: int
    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, jump: JumpHost, value: float) -> None:
        """One run's value."""
        self.values.setdefault(jump.name, []).append(value)

    def middle(self, name: str) -> float | None:
        """The median, None if it could not be measured."""
        return statistics.median(self.values[name]) if self.values.get(name) else None

    def cell(self, name: str) -> str:
        """Median and, of several runs, the least and the greatest."""
        middle = self.middle(name)
        if middle is None:
            return "not readable"
        text = f"{middle:.{self.digits}f}"
        found = self.values[name]
        return f"{text} ({min(found):.{self.digits}f}-{max(found):.{self.digits}f})" if len(found) > 1 else text

    def ratio(self) -> float | None:
        """The relay's median over sshd's."""
        sshd, relay = self.middle("sshd"), self.middle("relay")
        return relay / sshd if sshd and relay is not None else None

    def better(self) -> str:
        """Who is better, in one word."""
        ratio = self.ratio()
        if ratio is None:
            return "?"
        among = self._among("sshd", "relay") + self._among("relay", "sshd")
        noise = NOISE_P99 if " p99" in self.name else NOISE
        if abs(ratio - 1) <= (noise if among else EVEN) or among == 2:
            return "even"
        return "relay" if (ratio > 1) == self.more_is_better else "sshd"

    def _among(self, name: str, other: str) -> bool:
        """Whether one's median lies between the least and the greatest of the other's runs."""
        middle = self.middle(name)
        return middle is not None and min(self.values[other]) <= middle <= max(self.values[other])


class Table:
    """The figures in the order in which they were first named."""

    def __init__(self) -> None:
        self._figures: dict[str, Figure] = {}

    def add(self, jump: JumpHost, name: str, value: float | None, *, more: bool = False, digits: int = 2) -> None:
        """One run's value of the figure `name`; None: it could not be read."""
        figure = self._figures.setdefault(name, Figure(name, more, digits))
        if value is not None:
            figure.add(jump, value)

    def lines(self) -> list[str]:
        """The Markdown table, then who is better at what."""
        found = ["| | sshd | this relay | relay / sshd | better |", "|---|---|---|---|---|"]
        for figure in self._figures.values():
            ratio = figure.ratio()
            shown = f"{ratio:.2f}" if ratio is not None else "-"
            cells = (figure.name, figure.cell("sshd"), figure.cell("relay"), shown, figure.better())
            found.append(f"| {' | '.join(cells)} |")
        found.append("")
        for who, words in (
            ("sshd", "**sshd is better at**"),
            ("relay", "**The relay is better at**"),
            ("even", "Even"),
        ):
            named = [
                f"{figure.name} ({figure.ratio():.2f})" for figure in self._figures.values() if figure.better() == who
            ]
            found += [f"{words}: {'; '.join(named) or 'nothing measured here'}.", ""]
        return found


def measure(started: Started, hosts: list[JumpHost], echo: int, bulk: int, size: Size) -> Table:
    """Everything, each figure in turns, so that a busy minute of the machine meets both."""
    table = Table()
    # memory first: as they start, before bulk streams have grown anything
    for jump in hosts:
        for people, (mib, count) in zip(size.people, measures.memory(started, jump, echo, size.people), strict=True):
            table.add(jump, f"memory in all with {people} connected, MiB", mib, digits=1)
            say(f"{jump.name} with {people} connected: {mib and round(mib, 1)} MiB in {count} processes")
    for run in range(size.runs):
        for jump in hosts if run % 2 else hosts[::-1]:
            for up in (False, True):
                way = "up (client to target)" if up else "down (target to client)"
                speed, cpu = measures.throughput(started, jump, bulk, size.bytes, up=up)
                table.add(jump, f"throughput {way}, MiB/s", speed, more=True, digits=0)
                table.add(jump, f"jump host's CPU {way}, s/GB", cpu)
                say(f"{jump.name} run {run + 1}/{size.runs} {way}: {speed:.0f} MiB/s, {cpu:.2f} s/GB")
    for run in range(size.runs):
        for jump in hosts if run % 2 else hosts[::-1]:
            rate, spent = measures.logins(started, jump, echo, max(size.logins // size.runs, 5))
            table.add(jump, "log-ins with a forward per CPU second", rate, more=True, digits=0)
            table.add(jump, "start of ssh to the target's first byte, ms", statistics.median(spent), digits=0)
            say(f"{jump.name} run {run + 1}/{size.runs}: {rate:.0f} log-ins per CPU second")
    for run in range(min(size.runs, 3)):
        for jump in hosts if run % 2 else hosts[::-1]:
            latency(started, jump, (echo, bulk), size, table)
            say(f"{jump.name} run {run + 1}/{min(size.runs, 3)}: latencies done")
    for jump in hosts:
        mib, count = measures.memory(started, jump, echo, (0,))[0]
        table.add(jump, "memory in all with 0 connected after all this, MiB", mib, digits=1)
        say(f"{jump.name} in the end: {mib and round(mib, 1)} MiB in {count} processes")
    return table


def latency(started: Started, jump: JumpHost, targets: tuple[int, int], size: Size, table: Table) -> None:
    """Forward set-up and echoes: idle, beside another's bulk stream, and beside one's own."""

    def both(name: str, spent: list[float]) -> None:
        table.add(jump, f"{name} p50, ms", measures.centile(spent, 50))
        table.add(jump, f"{name} p99, ms", measures.centile(spent, 99))

    echo, bulk = targets
    shared = measures.Shared(started, jump, echo, bulk)
    try:
        both("forward set-up on an open connection", measures.setup(shared, size.setups))
        with measures.tunnel(started, jump, echo) as at:
            both("echo, idle", measures.echoes(at, size.seconds))
        with measures.others_bulk(started, jump, bulk), measures.tunnel(started, jump, echo) as at:
            both("echo beside another's bulk stream", measures.echoes(at, size.seconds))
        both("echo beside one's own bulk stream", measures.own_bulk_echoes(started, shared, size.seconds))
    finally:
        shared.close()


def report(table: Table, size: Size, seconds: float, loads: tuple[float, float]) -> str:
    """The whole section: machine, table, verdict, and how it was measured."""
    return "\n".join(
        [
            *machine.described(),
            f"- when: {time.strftime('%Y-%m-%d', time.gmtime())}, in {seconds / 60:.1f} minutes; load before "
            f"{loads[0]:.1f}, after {loads[1]:.1f} (0 before means that nobody else used the machine)",
            *(() if loads[0] < QUIET else (BUSY,)),
            "",
            *table.lines(),
            f"Medians (least-greatest) of {size.runs} runs in turns, three for the latencies, of "
            f"{size.bytes >> 20} MiB each way; p50 and p99 are of one run's {size.seconds:.0f} s. Real `ssh -W` and "
            "`ssh -L`, aes128-gcm, curve25519, Ed25519 keys, everything on 127.0.0.1: client, target and jump host "
            "share the cores, so throughput is what the whole chain gave and CPU per GB is the jump host's own. CPU "
            "and memory (PSS, shared pages counted once) are sums over the whole process tree. One GB is 10^9 bytes. "
            "*Even*: within 5 %, or within 15 % (p99: 30 %, so much does sshd differ from a second sshd here) if a "
            "median lies among the other's runs, or each median does.",
            "",
            "To be fair to sshd: it ran unprivileged with `UsePAM no`, `AllowTcpForwarding local` and `MaxSessions 0` "
            "(without which a key that may forward may also run commands); with PAM its log-ins cost more. To be fair "
            "to the relay: it judged every forward against its policy, asked the kernel for the route, and had a row "
            "durable on disk before each was confirmed, which sshd does not do at all; that is in the set-up times.",
        ]
    )


def write(path: Path, section: str) -> None:
    """Put the section between its markers in `path`, keeping what stands around them."""
    text = path.read_text() if path.exists() else f"# Benchmarks\n\n{BEGIN}\n{END}\n"
    if BEGIN not in text or END not in text:
        text += f"\n{BEGIN}\n{END}\n"
    before, _, rest = text.partition(BEGIN)
    path.write_text(f"{before}{BEGIN}\n{section}\n{END}{rest.partition(END)[2]}")


def say(text: str) -> None:
    """Progress, on stderr."""
    print(f"  {text}", file=sys.stderr, flush=True)


def main() -> int:
    """Start both, measure, print, end both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer runs, under two minutes")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table into this Markdown file")
    options = parser.parse_args()
    size = QUICK if options.quick else Size()
    load, start = machine.load(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, Started() as started:
        home = Path(directory)
        home.chmod(0o755)  # sshd runs as another user when we are root
        jumphosts.make_key(home / "key")
        echo, bulk = (target(started) for _ in range(2))
        hosts = [
            jumphosts.start_sshd(started, home / "sshd", home / "key"),
            jumphosts.start_relay(started, home / "relay", home / "key", (echo, bulk)),
        ]
        table = measure(started, hosts, echo, bulk, size)
        for jump in hosts:
            measures.settle(jump)  # sshd's processes end when their clients are gone, not with the listener
    section = report(table, size, time.monotonic() - start, (load, machine.load()))
    print(section)
    if options.write:
        write(options.write, section)
        say(f"written to {options.write}")
    return 0


def target(started: Started) -> int:
    """Start one target; gives its port."""
    program = str(Path(__file__).with_name("target.py"))
    process = started.start([sys.executable, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    return int(process.stdout.readline())


if __name__ == "__main__":
    sys.exit(main())

"""The relay and OpenSSH's sshd as jump hosts, measured side by side on this machine.

    python bench/compare.py [--quick] [--beside] [--growth] [--guard] [--work] [--write docs/reference/benchmarks.md]

Both run on 127.0.0.1 and are measured in turns with real ssh clients. Prints Markdown tables: side by side; under
growing load; and the results of bench/guard.py and bench/work.py for the relay alone. All of it takes about ten
minutes, --quick two. Every process that it starts ends with it.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import floor
import growth
import jumphosts
import machine
import measures
import streams
from figures import Table
from jumphosts import CIPHERS, JumpHost
from processes import Started
from target import target

QUIET = 0.7  # a load above this before anything is measured: other programs compete for the cores
BUSY = (
    "- **other programs ran at the same time**: throughput and latencies are worse for both than on a quiet machine, "
    "and their ratios are rough; CPU and memory are less affected"
)
WAYS = {False: "down", True: "up"}  # target to client, client to target
STREAMS = 4


@dataclass(frozen=True, slots=True)
class Size:
    """The amount of work."""

    bytes: int = 256 << 20
    runs: int = 5
    logins: int = 100
    people: tuple[int, ...] = (0, 20, 200)
    idle: int = 200
    seconds: float = 6.0  # of echoes, each time
    echoes: int = 3  # runs of all latencies
    setups: int = 200
    calls: int = 20_000  # of the route guard
    steps: growth.Steps = field(default_factory=growth.Steps)


QUICK = Size(
    bytes=128 << 20,
    runs=3,
    logins=30,
    people=(0, 20),
    idle=50,
    seconds=1.5,
    echoes=1,
    setups=60,
    calls=2000,
    steps=growth.Steps((1, 10), 2.0, (1, 10), 20, (100,), (10, 1000), 2000, 2),
)
LEAST = Size(
    bytes=4 << 20,
    runs=1,
    logins=5,
    people=(0, 2),
    idle=4,
    seconds=0.2,
    echoes=1,
    setups=5,
    calls=200,
    steps=growth.Steps((1, 2), 0.2, (1, 2), 2, (4,), (10,), 100, 1),
)


@dataclass(frozen=True, slots=True)
class Field:
    """The jump hosts, the targets, and how much is measured."""

    started: Started
    sshd: JumpHost
    relay: JumpHost
    single: JumpHost  # the relay with one worker, for streams that share it
    echo: int  # targets
    bulk: int
    size: Size

    def turns(self, runs: int) -> list[tuple[str, JumpHost]]:
        """The order of the runs: in turns, so that a busy minute of the machine meets both."""
        both = [self.sshd, self.relay]
        return [(f"{run + 1}/{runs}", jump) for run in range(runs) for jump in (both if run % 2 else both[::-1])]


def beside(at: Field) -> list[str]:
    """Both side by side, and beside the floor."""
    table = Table()
    memory(at, table)  # first: as they start, before bulk streams have grown anything
    least = throughput(at, table)
    for run, jump in at.turns(at.size.runs):
        cpu, _, spent = measures.logins(at.started, jump, at.echo, max(at.size.logins // at.size.runs, 5))
        table.add(jump, "CPU of a log-in with a forward, ms", cpu, digits=1)
        table.add(jump, "start of ssh to the target's first byte, ms", statistics.median(spent), digits=0)
        say(f"{jump.name} run {run}: {cpu:.1f} ms of CPU for a log-in")
    for run, jump in at.turns(at.size.echoes):
        latency(at, jump, table)
        say(f"{jump.name} run {run}: latencies done")
    for jump in (at.sshd, at.relay):
        [(size, _)] = measures.memory(at.started, jump, at.echo, (0,))
        table.add(jump, "memory in all with 0 connected after all this, MiB", size, digits=1)
    return [*table.lines(), "", *least]


def memory(at: Field, table: Table) -> None:
    """Memory with one forward per person, memory of an idle connection, and CPU at rest."""
    for jump in (at.sshd, at.relay):
        found = measures.memory(at.started, jump, at.echo, at.size.people)
        for people, (size, count) in zip(at.size.people, found, strict=True):
            table.add(jump, f"memory in all with {people} connected, MiB", size, digits=1)
            say(f"{jump.name} with {people} connected: {size and round(size, 1)} MiB in {count} processes")
        # of the relay that nobody has used yet: a used one has free memory to reuse
        before, after = measures.idle(at.single if jump is at.relay else jump, (0, at.size.idle))
        each = (after - before) * 1024 / at.size.idle if before is not None and after is not None else None
        table.add(jump, "memory of an idle connection, KiB", each, digits=1)
        rest = measures.at_rest(jump, at.size.seconds)
        table.add(jump, "CPU at rest with nobody connected, ms per second", rest, digits=1)


def throughput(at: Field, table: Table) -> list[str]:
    """Both directions, both ciphers, one stream and several; returns the table of the floor of the same runs."""
    proxy = floor.Proxy(at.started, at.bulk)
    least: dict[tuple[bool, str], list[float]] = {}
    clients: dict[tuple[bool, str], list[float]] = {}
    for run, jump in at.turns(at.size.runs):
        for up, way in WAYS.items():
            moved = proxy.cost(at.size.bytes, up=up)
            for cipher in CIPHERS:
                found = measures.throughput(at.started, jump, at.bulk, at.size.bytes, up=up, cipher=cipher)
                of = f"{way}, {cipher}"
                table.add(jump, f"throughput {of}, MiB/s", found.speed, more=True, digits=0)
                table.add(jump, f"jump host's CPU {of}, s/GB", found.cpu)
                clients.setdefault((up, cipher), []).append(found.client)
                sealed = floor.cipher(int(cipher[3:6]), up=up)
                least.setdefault((up, cipher), []).append(moved + sealed)
            found = measures.throughput(at.started, jump, at.bulk, at.size.bytes // 2, up=up, streams=STREAMS)
            of = f"{way}, {STREAMS} streams over all workers"
            table.add(jump, f"throughput {of}, MiB/s", found.speed, more=True, digits=0)
            table.add(jump, f"jump host's CPU {of}, s/GB", found.cpu)
            say(f"{jump.name} run {run} {way}: {STREAMS} streams {found.speed:.0f} MiB/s, {found.cpu:.2f} s/GB")
    lines = ["| CPU, s/GB | the floor | sshd / floor | relay / floor | the ssh client |", "|---|---|---|---|---|"]
    for (up, cipher), found_least in least.items():
        middle = statistics.median(found_least)
        figure = table[f"jump host's CPU {WAYS[up]}, {cipher}, s/GB"]
        multiples = (f"{(figure.median(name) or 0) / middle:.1f}" for name in ("sshd", "relay"))
        client = statistics.median(clients[up, cipher])
        lines.append(f"| {WAYS[up]}, {cipher} | {middle:.2f} | {' | '.join(multiples)} | {client:.2f} |")
    return lines


def latency(at: Field, jump: JumpHost, table: Table) -> None:
    """Forward set-up, requests, and echoes beside bulk streams of the same worker."""

    def both(name: str, spent: list[float]) -> None:
        table.add(jump, f"{name} p50, ms", measures.centile(spent, 50))
        table.add(jump, f"{name} p99, ms", measures.centile(spent, 99))

    shared = streams.Shared(at.started, jump, at.echo, at.bulk)
    try:
        both("forward set-up on an open connection", measures.setup(shared, at.size.setups))
    finally:
        shared.close()
    host = at.single if jump is at.relay else jump
    with streams.tunnel(at.started, host, at.bulk) as asking:
        both("a request that is answered by 32 KiB", measures.answers(asking, 1 << 15, at.size.setups))
        both("a parcel of 100 KB that is acknowledged", measures.parcels(asking, 100_000, at.size.setups))
    with streams.tunnel(at.started, host, at.echo) as idle:
        both("echo, idle", measures.echoes(idle, at.size.seconds))
    for count in (1, 8):
        found = measures.crowd(at.started, host, (at.echo, at.bulk), count, at.size.seconds)
        both(f"echo beside {count} bulk stream{'s' if count > 1 else ''} of others", found.echoes)
    shared = streams.Shared(at.started, host, at.echo, at.bulk)
    try:
        both("echo beside one's own bulk stream", measures.own_bulk_echoes(at.started, shared, at.size.seconds))
    finally:
        shared.close()


def beside_section(at: Field) -> list[str]:
    """The comparison, and how it was measured."""
    size = at.size
    return [
        *beside(at),
        "",
        f"Medians (least-greatest) of {size.runs} runs in turns, {size.echoes} for the latencies, of "
        f"{size.bytes >> 20} MiB each way (each of {STREAMS} streams: {size.bytes >> 21}); p50 and p99 are of one "
        f"run's {size.seconds:g} s. Real `ssh -W` and `ssh -L`, curve25519, Ed25519 keys, aes128-gcm where nothing "
        "else is said, everything on 127.0.0.1: client, target and jump host share the cores, so throughput is what "
        "the whole chain gave and CPU is the jump host's own. CPU and memory (PSS, shared pages counted once) are sums "
        "over the whole process tree. One GB is 10^9 bytes. An echo beside others' streams shares one worker with them "
        "(a relay with `workers: 1`); an idle connection is logged in and has nothing open. *Even*: within 5 %, or "
        "within 15 % (p99: 30 %, so much does sshd differ from a second sshd here) if a median lies among the other's "
        "runs, or each median does.",
        "",
        "The floor is the least that any jump host needs: a plain TCP proxy that moves the bytes without cryptography, "
        "and AES-GCM by `cryptography` over packets of 32 KiB, both from the same runs. The ssh client's own CPU "
        "is there because no jump host makes one stream faster than its client is.",
        "",
        "In fairness to sshd: it ran unprivileged with `UsePAM no`, `AllowTcpForwarding local` and `MaxSessions 0` "
        "(without which a key that may forward may also run commands); with PAM its log-ins cost more. In fairness "
        "to the relay: it judged every forward against its policy, asked the kernel for the route, and had a row "
        "durable on disk before each was confirmed, which sshd does not do at all; that is in the set-up times. "
        "Limits of both that hold off many people at one address were raised.",
    ]


def growth_section(at: Field) -> list[str]:
    """The comparison under growing load."""
    table, hosts, targets = Table(), (at.sshd, at.relay), (at.echo, at.bulk)
    growth.Growth(at.started, hosts, targets, at.size.steps, say, table).measure()
    return [
        *table.lines(),
        "",
        f"Each step once, for {at.size.steps.seconds:g} s or {at.size.steps.logins} log-ins (start-up: median of "
        f"{at.size.steps.starts}); everything as above. Downloads are connections of their own without end. "
        "Many ssh clients at once want more CPU than the jump host does: what is per second is what the whole "
        "machine gave. A forward that is opened waits for its row on the disk.",
    ]


def printed(program: str, *options: str) -> list[str]:
    """The output of another program of bench/, which also names a bound that does not hold."""
    command = [sys.executable, str(Path(__file__).with_name(program)), *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if not done.stdout:
        raise SystemExit(f"{program} failed (exit {done.returncode})")
    return done.stdout.splitlines()


SECTIONS: dict[str, Callable[[Field], list[str]]] = {
    "beside": beside_section,
    "growth": growth_section,
    "guard": lambda at: printed("guard.py", "--calls", str(at.size.calls)),
    "work": lambda at: printed("work.py"),
}


def write(path: Path, name: str, section: str) -> None:
    """Replace a section between its markers in `path`; the text around them stays."""
    begin, end = f"<!-- {name} begins -->", f"<!-- {name} ends -->"
    text = path.read_text() if path.exists() else "# Benchmarks\n"
    if begin not in text or end not in text:
        text += f"\n{begin}\n{end}\n"
    before, _, rest = text.partition(begin)
    path.write_text(f"{before}{begin}\n{section}\n{end}{rest.partition(end)[2]}")


def say(text: str) -> None:
    """Progress, on stderr."""
    print(f"  {text}", file=sys.stderr, flush=True)


def main() -> int:
    """Start all, measure, print, end all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_const", dest="size", const=QUICK, help="fewer runs, in two minutes")
    size.add_argument("--least", action="store_const", dest="size", const=LEAST, help="only to see that it runs")
    for name in SECTIONS:
        parser.add_argument(f"--{name}", action="append_const", dest="only", const=name, help="this part only")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the tables into this Markdown file")
    options = parser.parse_args()
    others = machine.load()  # later it includes our own
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # each idle person is a socket of this process
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, Started() as started:
        home = Path(directory)
        home.chmod(0o755)  # sshd runs as another user when we are root
        jumphosts.make_key(home / "key")
        echo, bulk = target(started), target(started)
        relay = jumphosts.start_relay(started, home / "relay", home / "key", (echo, bulk))
        single = jumphosts.start_relay(started, home / "single", home / "key", (echo, bulk), workers=1)
        sshd = jumphosts.start_sshd(started, home / "sshd", home / "key")
        at = Field(started, sshd, relay, single, echo, bulk, options.size or Size())
        for name in options.only or SECTIONS:
            load, start = machine.load(), time.monotonic()
            lines = SECTIONS[name](at)
            when = (
                f"- when: {time.strftime('%Y-%m-%d', time.gmtime())}, in {(time.monotonic() - start) / 60:.1f} minutes"
            )
            when += f"; load before {load:.1f}, after {machine.load():.1f}"
            busy = [BUSY] if others > QUIET and name != "work" else []  # counted work does not depend on the load
            section = "\n".join([*machine.described(), when, *busy, "", *lines])
            print(section, flush=True)
            if options.write:
                write(options.write, name, section)
                say(f"{name}: written to {options.write}")
        for jump in (sshd, relay, single):
            measures.settle(jump)  # sshd's processes end with their clients, not with the listener
    return 0


if __name__ == "__main__":
    sys.exit(main())

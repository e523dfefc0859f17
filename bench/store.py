"""Benchmark of the audit database: durable forwards per second, and bytes per forward.

Run: python bench/store.py [--directory DIR] [--forwards N]. The directory's disk is what is measured.
"""

import argparse
import asyncio
import contextlib
import fcntl
import itertools
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.year import Year
from relay.core.audit.audit_query import ALLOWED
from relay.core.audit.event import Event
from relay.core.ids import Ids
from relay.serve.ipc import IpcLink
from relay.serve.supervisor.audit.group_commit import GroupCommit
from relay.store.preauth_counters import AttemptTally
from relay.store.writer import FILE, AuditWriter
from tests.relay_process import Relay

RATE = 2000  # openings a second that are to be durable
GROUP = 1000  # rows of a transaction while a database is filled


@dataclass(frozen=True, slots=True)
class Figure:
    """What was promised, and what came."""

    label: str
    value: float
    side: str  # below or above
    bound: float
    unit: str

    @property
    def holds(self) -> bool:
        """Whether the promise is kept."""
        return self.value < self.bound if self.side == "below" else self.value >= self.bound

    def __str__(self) -> str:
        verdict = "pass" if self.holds else "MISS"
        return f"{verdict}  {self.label}: {self.value:,.1f} {self.unit}".rstrip() + f" ({self.side} {self.bound:,g})"


def fsyncs(directory: Path) -> float:
    """Median milliseconds of writing 4 KiB and making it durable: the floor of a group."""
    times = []
    with (directory / "probe").open("wb") as probe:
        for _ in range(100):
            begin = time.perf_counter()
            probe.write(b"x" * 4096)
            probe.flush()
            os.fdatasync(probe.fileno())
            times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1000


def groups(directory: Path, size: int, seconds: float) -> tuple[float, float, float]:
    """Openings a second with groups of `size`, and the median and 99th percentile of a group in milliseconds."""
    path = directory / f"group-{size}"
    path.mkdir()
    opened = openings()
    writer = AuditWriter(path / FILE, "bench")
    times: list[float] = []
    spent = 0.0
    while spent < seconds:
        group = list(itertools.islice(opened, size))
        begin = time.perf_counter()
        writer.append(group)
        times.append(time.perf_counter() - begin)
        spent += times[-1]
    writer.close()
    shutil.rmtree(path)
    times.sort()
    return len(times) * size / spent, times[len(times) // 2] * 1000, times[int(len(times) * 0.99)] * 1000


def openings() -> Iterator[Event]:
    """Opening rows without end."""
    year = Year(1 << 40, 1_790_856_000_000_000)
    return (event for group in year.events() for event in group if event.name == "forward.opened")


def growth(directory: Path, count: int) -> Iterator[Figure]:
    """Bytes a forward, and whether appending slows down, at `count` forwards: only their own two rows."""
    path = directory / "growth" / FILE
    path.parent.mkdir()
    writer = AuditWriter(path, "bench")
    empty = path.stat().st_size
    year = Year(count, 1_790_856_000_000_000)
    rows = (event for group in year.events() for event in group if event.name in ALLOWED)
    costs: list[float] = []
    while group := list(itertools.islice(rows, GROUP)):
        begin = time.process_time()
        writer.append(group)
        costs.append((time.process_time() - begin) / len(group) * 1e6)
    writer.close()
    size = (path.stat().st_size - empty) / count
    part = max(len(costs) // 20, 1)
    first, last = statistics.median(costs[part : 2 * part]), statistics.median(costs[-part:])
    yield Figure(f"bytes a forward, opened and closed, at {count:,}", size, "below", 400, "")
    label = f"CPU to append a row at {count:,} forwards, {last:.0f} us, to {first:.0f} us at the begin"
    yield Figure(label, last / first, "below", 1.1, "times")
    shutil.rmtree(path.parent)


async def pressed(path: Path, rate: float, seconds: float) -> tuple[float, list[float]]:
    """Forwards that come by chance, `rate` a second: openings durable a second, and how long each waited (ms)."""
    recorder = GroupCommit(path, "bench", lambda events: None)
    recorder.start()
    loop, chance = asyncio.get_running_loop(), random.Random(5)
    opened, waits = openings(), list[float]()
    begin = due = loop.time()
    refused = 0
    while (now := loop.time()) < begin + seconds:
        while due <= now:
            due += chance.expovariate(rate)
            event, came = next(opened), loop.time()

            def answer(problem: str, came: float = came) -> None:
                nonlocal refused
                refused += bool(problem)
                waits.append((loop.time() - came) * 1000)

            recorder.opening(event, answer)
        await asyncio.sleep(max(due - loop.time(), 0))
    done = len(waits) / (loop.time() - begin)
    await recorder.close()
    if refused:
        raise SystemExit(f"{refused} openings were refused")
    return done, sorted(waits)


@contextlib.contextmanager
def slow_sync(seconds: float) -> Iterator[None]:
    """Each transaction of the writer takes so much longer: what a disk does whose syncs take so much longer.

    A stand-in, as SQLite syncs by itself: the thread sleeps after the commit, and answers then.
    """
    append = AuditWriter.append

    def slower(self: AuditWriter, events: Sequence[Event]) -> None:
        append(self, events)
        time.sleep(seconds)

    AuditWriter.append = slower  # type: ignore[method-assign]
    try:
        yield
    finally:
        AuditWriter.append = append  # type: ignore[method-assign]


def waiting(directory: Path, seconds: float) -> Iterator[Figure]:
    """How long a forward waits for its row at 2,000 a second, by the recorder of the supervisor alone."""
    for label, delay in (("", 0.0), (", with 3 ms added to each sync", 0.003)):
        path = directory / f"waiting-{delay}"
        path.mkdir()
        with slow_sync(delay):
            done, waits = asyncio.run(pressed(path / FILE, RATE * 1.02, seconds))
        shutil.rmtree(path)
        yield Figure(f"openings a second in the recorder{label}", done, "above", RATE, "")
        yield Figure(f"a forward's median wait in the recorder{label}", waits[len(waits) // 2], "below", 10, "ms")
        print(f"    p99 {waits[int(len(waits) * 0.99)]:.1f} ms")


# ---- through a running relay: its own supervisor, and processes that say what workers say

_SUPERVISOR = """
import os, sys, time
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
delay = float(sys.argv[3])
from relay.store.writer import AuditWriter
append = AuditWriter.append
def slower(self, events):
    append(self, events)
    time.sleep(delay)
if delay:
    AuditWriter.append = slower
from relay.serve.supervisor.process import main
sys.argv[1:] = [sys.argv[2]]
main()
"""


async def worker(state: Path, name: str, seconds: float, rate: float) -> None:
    """Join as a worker does; open forwards by chance, `rate` a second, close each once it is open; print the waits."""
    loop = asyncio.get_running_loop()
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(state / "run" / "workers.sock"))
    sock.setblocking(False)
    asked: dict[str, tuple[float, Event]] = {}
    waits: list[float] = []
    welcome = asyncio.Event()
    busy: Counter[str] = Counter()
    make = Ids(int(name[-1]) + 300)

    def received(link: IpcLink, message: dict, descriptor: int | None) -> None:
        match message["t"]:
            case "welcome":
                welcome.set()
            case "ping":
                link.send({"t": "pong", "n": message["n"]})
            case "busy":
                busy[message["reason"]] += 1
                asked.pop(message["f"])
            case "opened":
                came, event = asked.pop(message["f"])
                waits.append((loop.time() - came) * 1000)
                end = {"reason": "client-closed", "sent": 1500, "received": 9000, "duration": 20_000, "detail": ""}
                closing = [make.make(event.time), event.time, "forward.closed", {**event.fields, **end}]
                link.send({"t": "note", "e": closing})

    link = IpcLink(sock, received, lambda link: None)
    with (state / "run" / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        hello = {"t": "hello", "v": 1, "release": "bench", "pid": os.getpid(), "name": name, "slot": None, "can": []}
        link.send(hello)
        await welcome.wait()
        chance = random.Random(name)
        crowd = [next(openings()).fields | {"person": f"p{n}", "fingerprint": f"SHA256:{n}"} for n in range(100)]
        for number, who in enumerate(crowd):
            who |= {"connection": f"{name}{number:08x}"[-11:], "client": "127.0.0.1", "worker": name}
            link.send({"t": "auth", "c": who["connection"], "person": who["person"], "key": who["fingerprint"]})
        link.send({"t": "joined"})
        begin = due = loop.time()
        while (now := loop.time()) < begin + seconds:
            while due <= now:
                due += chance.expovariate(rate)
                stamp = time.time_ns() // 1000
                forward = make.make(stamp)
                event = Event(forward, stamp, "forward.opened", {**chance.choice(crowd), "forward": forward})
                asked[forward] = loop.time(), event
                link.send({"t": "open", "e": [event.id, event.time, event.name, event.fields]})
            await asyncio.sleep(max(due - loop.time(), 0))
        took = loop.time() - begin
        print(json.dumps([len(waits) / took, waits, dict(busy)]))
        await asyncio.sleep(0.5)  # the last closings


def served(directory: Path, seconds: float) -> Iterator[Figure]:
    """The same through a supervisor that serves, by two processes that speak its workers' protocol."""
    for label, delay in (("", 0.0), (", with 3 ms added to each sync", 0.003)):
        place = directory / f"served-{delay}"
        place.mkdir()
        one = Relay(place, settings="workers: 1\nlimits: {forwards_per_target: 1000000}\n")
        try:
            one._run("-c", _SUPERVISOR, str(one.listener.fileno()), str(one.site), str(delay))
            words = [sys.executable, __file__, "--worker", str(one.state), "--seconds", str(seconds)]
            workers = [
                subprocess.Popen([*words, "--name", f"wbench{number}"], stdout=subprocess.PIPE) for number in "12"
            ]
            told = [json.loads(process.communicate()[0]) for process in workers]
            used = Path(f"/proc/{one.pid}/stat").read_text().rpartition(")")[2].split()
        finally:
            one.end()
        waits = sorted(wait for _, some, _ in told for wait in some)
        if any(busy for *_, busy in told):
            print(f"    refused: {[busy for *_, busy in told]}")
        done = sum(rate for rate, *_ in told)
        yield Figure(f"openings a second through a relay{label}", done, "above", RATE, "")
        yield Figure(
            f"a forward's median wait, from a worker and back{label}", waits[len(waits) // 2], "below", 10, "ms"
        )
        cpu = (int(used[11]) + int(used[12])) / os.sysconf("SC_CLK_TCK")
        print(f"    p99 {waits[int(len(waits) * 0.99)]:.1f} ms; the supervisor used {cpu:.1f} s of CPU in all")


def junk(directory: Path) -> None:
    """What 10^5 strangers add to the disk."""
    from ipaddress import IPv4Address

    path = directory / "junk" / FILE
    path.parent.mkdir()
    writer = AuditWriter(path, "bench")
    chance, tally = random.Random(4), AttemptTally(writer.salt)

    def size() -> int:
        return sum(file.stat().st_size for file in path.parent.iterdir() if not file.name.endswith("-shm"))

    before, now = size(), 1_790_856_000_000_000
    begin = time.perf_counter()
    for number in range(100_000):
        tally.add(now + number * 600, IPv4Address(chance.getrandbits(32)), "junk", reference="0k3v9x2m4qz")
        if number % 10_000 == 9_999:
            writer.strangers(tally.take())
    took = time.perf_counter() - begin
    print(f"10^5 strangers of as many networks in a minute: {(size() - before) / 1000:.0f} kB, {took:.2f} s")
    writer.close()


def main() -> None:
    """Print the tables; exit status 1 when a figure is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, help="where to write (default: a temporary directory)")
    parser.add_argument("--forwards", type=int, default=1_000_000, help="forwards that the database grows by")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each measurement of speed")
    parser.add_argument("--only", choices=["groups", "growth", "waiting", "served", "junk"])
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--name", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        asyncio.run(worker(options.worker, options.name, options.seconds, RATE * 1.02 / 2))
        return
    missed = 0
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        directory = Path(name)
        print(f"4 KiB durable on this disk: {fsyncs(directory):.3f} ms")
        if options.only in (None, "groups"):
            print("\ngroup   openings/s   median ms      p99 ms")
            for size in (1, 4, 16, 64, 256):
                rate, median, worst = groups(directory, size, min(options.seconds, 2.0))
                print(f"{size:5} {rate:12,.0f} {median:11.3f} {worst:11.3f}")
        if options.only in (None, "junk"):
            junk(directory)
        print()
        for part, figures in (
            ("waiting", waiting(directory, options.seconds)),
            ("served", served(directory, options.seconds)),
            ("growth", growth(directory, options.forwards)),
        ):
            if options.only in (None, part):
                for figure in figures:
                    missed += not figure.holds
                    print(figure, flush=True)
    sys.exit(missed > 0)


if __name__ == "__main__":
    main()

"""The measurements of the comparison, each of one jump host, with real ssh clients."""

import contextlib
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import processes
from jumphosts import CIPHERS, JumpHost
from processes import Started
from streams import PATIENCE, Shared, Tunnel, downloads, tunnel

from tests.serve import hostile
from tests.serve.hostile import Client, load_key


class Carried(NamedTuple):
    """Throughput of a jump host, and its CPU cost."""

    speed: float  # MiB/s, of all streams together
    cpu: float  # of the jump host, seconds per GB
    client: float  # of the ssh clients, seconds per GB


def throughput(
    started: Started, jump: JumpHost, port: int, size: int, *, up: bool, cipher: str = CIPHERS[0], streams: int = 1
) -> Carried:
    """Move `size` bytes in one direction through each of `streams` open connections at once."""

    def carry(at: Tunnel) -> None:
        if up:
            at.say(f"put {size}")
            at.give(size)
            at.take(1)
        else:
            at.say(f"get {size}")
            at.take(size)

    with contextlib.ExitStack() as stack, ThreadPoolExecutor(streams) as pool:
        tunnels = [stack.enter_context(tunnel(started, jump, port, cipher)) for _ in range(streams)]
        ours, theirs = [at.process.pid for at in tunnels], processes.tree(jump.pid)
        start, before = time.perf_counter(), (processes.cpu_now(theirs), processes.cpu_now(ours))
        list(pool.map(carry, tunnels))
        seconds = time.perf_counter() - start
        after = (processes.cpu_now(theirs), processes.cpu_now(ours))
    gigabytes = streams * size / 1e9
    cpu, client = ((now - then) / gigabytes for now, then in zip(after, before, strict=True))
    return Carried(streams * size / seconds / (1 << 20), cpu, client)


def logins(
    started: Started, jump: JumpHost, port: int, count: int, at_once: int = 1
) -> tuple[float, float, list[float]]:
    """(CPU ms of the jump host for a log-in with a forward, log-ins per second, ms from start to first byte)."""

    def visit(_: int) -> float:
        begin = time.perf_counter()
        with tunnel(started, jump, port):
            return (time.perf_counter() - begin) * 1000

    settle(jump)
    before, start = processes.cpu_with_ended(processes.tree(jump.pid)), time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        spent = list(pool.map(visit, range(count)))
    seconds = time.perf_counter() - start
    settle(jump)
    cpu = processes.cpu_with_ended(processes.tree(jump.pid)) - before
    return cpu * 1000 / count, count / seconds, spent


def openings(jump: JumpHost, port: int, at_once: int, seconds: float) -> tuple[float, list[float]]:
    """(forwards opened per second, ms from request to confirmation of each), at most `at_once` unanswered.

    Up to ten connections, whose clients are threads of this process; each forward is closed when it is there.
    """
    key, connections = load_key(jump.key), min(at_once, 10)

    def open_on(client: Client) -> list[float]:
        asked: dict[int, float] = {}
        spent: list[float] = []
        while True:
            while len(asked) < at_once // connections and time.perf_counter() < over:
                number, packet = client.ask("127.0.0.1", port)
                asked[number] = time.perf_counter()
                client.send(packet)
            if not asked:
                return spent
            answer = client.expect(hostile.OPEN_CONFIRMATION, hostile.OPEN_FAILURE)
            if answer[0] == hostile.OPEN_FAILURE:
                raise SystemExit(f"{jump.name} refuses a forward: {answer[9:]!r}")
            ours, theirs = (int.from_bytes(answer[at : at + 4], "big") for at in (1, 5))
            spent.append((time.perf_counter() - asked.pop(ours)) * 1000)
            client.send(bytes([hostile.CLOSE]) + hostile.uint32(theirs))

    with contextlib.ExitStack() as stack, ThreadPoolExecutor(connections) as pool:
        clients = [stack.enter_context(Client(jump.port, seconds=PATIENCE)) for _ in range(connections)]
        for client in clients:
            client.login(jump.user, key)
        over = (begin := time.perf_counter()) + seconds
        spent = [one for found in pool.map(open_on, clients) for one in found]
        took = time.perf_counter() - begin
    return len(spent) / took, spent


def settle(jump: JumpHost, patience: float = 10.0) -> None:
    """Wait until the process tree was idle and unchanged for 0.3 s; ended children are reaped by then."""
    deadline = time.monotonic() + patience
    last: tuple[list[int], float] | None = None
    while time.monotonic() < deadline:
        pids = processes.tree(jump.pid)
        now = (pids, round(processes.cpu_with_ended(pids), 2))
        if now == last:
            return
        last = now
        time.sleep(0.3)


def at_rest(jump: JumpHost, seconds: float) -> float:
    """CPU of the jump host without any client, in milliseconds a second."""
    settle(jump)
    pids = processes.tree(jump.pid)
    before, start = processes.cpu_now(pids), time.perf_counter()
    time.sleep(seconds)
    return (processes.cpu_now(pids) - before) * 1000 / (time.perf_counter() - start)


def idle(jump: JumpHost, counts: tuple[int, ...]) -> list[float | None]:
    """MiB in all for each number of authenticated connections without forwards (clients are in this process)."""
    key = load_key(jump.key)
    found: list[float | None] = []
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(8) as pool:

        def enter(_: int) -> None:
            stack.enter_context(Client(jump.port, seconds=PATIENCE)).login(jump.user, key)

        have = 0
        for count in counts:
            list(pool.map(enter, range(count - have)))
            have = count
            settle(jump)
            found.append(processes.memory(processes.tree(jump.pid)))
    settle(jump)
    return found


def memory(started: Started, jump: JumpHost, port: int, people: tuple[int, ...]) -> list[tuple[float | None, int]]:
    """(MiB in all, processes) for each number of connections with one idle forward."""
    tunnels: list[Tunnel] = []
    found = []

    def connect(_: int) -> Tunnel:
        made = Tunnel(started, jump, port)
        made.say("ping")
        made.take(1)
        return made

    try:
        with ThreadPoolExecutor(8) as pool:
            for count in people:
                tunnels += pool.map(connect, range(count - len(tunnels)))
                settle(jump)
                pids = processes.tree(jump.pid)
                found.append((processes.memory(pids), len(pids)))
    finally:
        started.end(*(made.process for made in tunnels))
    return found


def echoes(at: Tunnel, seconds: float) -> list[float]:
    """Milliseconds of 64-byte echoes, one about every 4 ms, which is far faster than typing."""
    at.say("echo")
    at.take(1)
    spent = []
    end = time.perf_counter() + seconds
    message = "x" * 63
    while (start := time.perf_counter()) < end:
        at.say(message)
        at.take(64)
        spent.append((time.perf_counter() - start) * 1000)
        time.sleep(0.004)
    return spent


def answers(at: Tunnel, size: int, count: int) -> list[float]:
    """Milliseconds of requests that the target answers with `size` bytes, as a file server does."""
    spent = []
    for _ in range(count):
        start = time.perf_counter()
        at.say(f"get {size}")
        at.take(size)
        spent.append((time.perf_counter() - start) * 1000)
    return spent


def parcels(at: Tunnel, size: int, count: int) -> list[float]:
    """Milliseconds of uploads of `size` bytes, each acknowledged by the target."""
    spent = []
    for _ in range(count):
        start = time.perf_counter()
        at.say(f"put {size}")
        at.give(size)
        at.take(1)
        spent.append((time.perf_counter() - start) * 1000)
    return spent


class Crowd(NamedTuple):
    """Cost of simultaneous downloads, and echoes beside them."""

    carried: Carried
    echoes: list[float]  # ms


def crowd(started: Started, jump: JumpHost, targets: tuple[int, int], count: int, seconds: float) -> Crowd:
    """Echoes (target 0) beside `count` simultaneous downloads (target 1)."""
    echo, bulk = targets
    with tunnel(started, jump, echo) as at, downloads(started, jump, bulk, count) as clients:
        theirs = processes.tree(jump.pid)

        def now() -> tuple[float, float, float]:
            return processes.written(clients), processes.cpu_now(theirs), processes.cpu_now(clients)

        start, before = time.perf_counter(), now()
        spent = echoes(at, seconds)
        took = time.perf_counter() - start
        moved, cpu, client = (later - then for later, then in zip(now(), before, strict=True))
    return Crowd(Carried(moved / took / (1 << 20), cpu / (moved / 1e9), client / (moved / 1e9)), spent)


def setup(at: Shared, count: int) -> list[float]:
    """Milliseconds from a local connect to the first byte of the target, over an open SSH connection."""
    spent = []
    for _ in range(count):
        start = time.perf_counter()
        sock = at.ask(b"ping\n")
        spent.append((time.perf_counter() - start) * 1000)
        sock.close()
        time.sleep(0.002)
    return spent


def own_bulk_echoes(started: Started, at: Shared, seconds: float) -> list[float]:
    """Echoes beside an endless download in the same SSH connection."""
    program = str(Path(__file__).with_name("target.py"))
    bulk = started.start([sys.executable, program, "--drain", str(at.bulk)])
    time.sleep(1)
    spent = []
    message = b"x" * 64
    try:
        with at.ask(b"echo\n") as sock:
            end = time.perf_counter() + seconds
            while (start := time.perf_counter()) < end:
                sock.sendall(message)
                left = 64
                while left:
                    got = len(sock.recv(left))
                    if not got:
                        raise SystemExit("the echo beside one's own bulk stream ended")
                    left -= got
                spent.append((time.perf_counter() - start) * 1000)
                time.sleep(0.004)
    finally:
        started.end(bulk)
    return spent


def centile(values: list[float], percent: int) -> float:
    """The given percentile of the values."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]

"""What load does the relay hold? Four promises, each measured on this machine, each with a line that says pass or miss.

    python bench/load.py [siege] [botnet] [idle] [cold] [refused] [--seconds 20]

siege    5,000 silent connections, 100 clients that flood IGNORE packets and 500 key exchanges a second: known keys
         still log in, p95 under 1 s, and the echoes of a connection that was there before stay under twice their p99
botnet   the same from 850 addresses instead of 120: who comes from an address where no key was proven is one of them
idle     2,000 people logged in, doing nothing: under 100 MB in all processes
cold     200 real `ssh -J` at the moment in which the relay starts: none fails
refused  10,000 refused opens on 20 connections: memory stays as it was

The besiegers come from loopback addresses, and nothing is exempt from penalties. They run on the same cores as the
relay; in life they would bring their own, so they run when a core has nothing else to do (SCHED_IDLE). What they cost
the machine all the same is measured too: the same echoes while they besiege another door. Echoes are timed by a
process of their own, since threads of one process wait for each other.

On a machine where others work, `--first` (as root) has relay, client and target run before everybody (SCHED_RR), the
besiegers like everybody, and the supervisor behind the workers, since two of one rank never interrupt each other.
"""

import argparse
import compileall
import contextlib
import itertools
import json
import os
import resource
import select
import selectors
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from processes import cpu_now, memory

from relay.serve import control_client
from relay.serve.supervisor.listeners import BACKLOG
from tests.openssh.lan import HERE, Lan, Sshd
from tests.relay_process import POLICY, Relay, echo_server
from tests.serve import hostile
from tests.serve.hostile import Client, load_key, string, uint32

EXEMPT_NOBODY = "penalties: {exempt: []}\n"
SILENT, FLOODS, EXCHANGES = 5000, 100, 500
LOGINS = 4  # per second, half of them from where a key was proven lately
ECHO_EVERY = 0.02
FIRST, SECOND = 10, 5  # of SCHED_RR's ranks, sched(7)
INSIDE = 500  # connections that the decoy keeps, as many as a relay does

# ---- the besiegers: processes of their own, one loop each


class Siege:
    """Keeps `most` connections of one kind open, or begins `rate` a second. Ends with its standard input."""

    def __init__(self, kind: str, port: int, sources: int) -> None:
        self.kind = kind
        self.port = port
        self.most = {"silent": SILENT, "flood": FLOODS, "exchange": 2000}[kind]
        self.rate = {"silent": 2500.0, "flood": 200.0, "exchange": float(EXCHANGES)}[kind]
        network = {"silent": 20, "flood": 30, "exchange": 40}[kind]
        self.sources = itertools.cycle(f"127.{network}.{number % 250}.{1 + number // 250}" for number in range(sources))
        self.selector = selectors.DefaultSelector()
        self.open: dict[socket.socket, float] = {}
        self.heard: dict[socket.socket, int] = {}
        self._greeted: set[socket.socket] = set()
        self.counts: Counter[str] = Counter()
        self.ignore = memoryview(_packet(bytes([hostile.IGNORE]) + string(bytes(1000))) * 64)
        point = string(os.urandom(32))
        kexinit = Client.kexinit(object.__new__(Client))
        self.exchange = b"SSH-2.0-load\r\n" + _packet(kexinit) + _packet(bytes([hostile.ECDH_INIT]) + point)

    def run(self, report: Callable[[str], None]) -> None:
        """Until nobody listens."""
        _stand_back()
        os.set_blocking(0, False)
        began = said = time.monotonic()
        started = 0
        while True:
            now = time.monotonic()
            while len(self.open) < self.most and started < (now - began) * self.rate:
                started += 1
                self._start(now)
            started = max(started, int((now - began) * self.rate) - int(self.rate))
            for key, mask in self.selector.select(0.01):
                self._event(key.fileobj, mask)  # type: ignore[arg-type]  # sockets only
            if self.kind == "exchange":
                for sock in [sock for sock, since in self.open.items() if since < now - 10]:
                    self._end(sock, "given up")
            if now - said > 1:
                said = now
                self.counts["open"] = len(self.open)
                report(" ".join(f"{name.replace(' ', '-')}={count}" for name, count in self.counts.items()))
                with contextlib.suppress(BlockingIOError):
                    if not os.read(0, 1):
                        return

    def _start(self, now: float) -> None:
        sock = socket.socket()
        sock.setblocking(False)
        try:
            sock.bind((next(self.sources), 0))
            sock.connect_ex(("127.0.0.1", self.port))
        except OSError:
            sock.close()
            self.counts["no socket"] += 1
            return
        self.counts["begun"] += 1
        self.open[sock] = now
        both = selectors.EVENT_READ | (selectors.EVENT_WRITE if self.kind != "silent" else 0)
        self.selector.register(sock, both)

    def _event(self, sock: socket.socket, mask: int) -> None:
        try:
            if mask & selectors.EVENT_WRITE:
                self._say(sock)
            if mask & selectors.EVENT_READ:
                data = sock.recv(1 << 16)
                if not data:
                    self._end(sock, "ended")
                elif self.kind == "exchange":
                    self._heard(sock, len(data))
        except BlockingIOError:
            pass
        except OSError:
            self._end(sock, "ended")

    def _say(self, sock: socket.socket) -> None:
        if self.kind == "exchange":
            sock.sendall(self.exchange)
            self.selector.modify(sock, selectors.EVENT_READ)
        elif sock not in self._greeted:
            sock.sendall(b"SSH-2.0-load\r\n")
            self._greeted.add(sock)
        else:
            self.counts["packets"] += sock.send(self.ignore) // (len(self.ignore) // 64)

    def _heard(self, sock: socket.socket, size: int) -> None:
        self.heard[sock] = self.heard.get(sock, 0) + size
        if self.heard[sock] > 600:  # its version and KEXINIT are shorter: the answer is here, which was the dear part
            self._end(sock, "exchanged")

    def _end(self, sock: socket.socket, how: str) -> None:
        self.counts[how] += 1
        self._greeted.discard(sock)
        self.heard.pop(sock, None)
        with contextlib.suppress(KeyError, ValueError):
            self.selector.unregister(sock)
        self.open.pop(sock, None)
        sock.close()


def _packet(payload: bytes) -> bytes:
    """A packet before the first key exchange (RFC 4253 6)."""
    padding = 8 - (5 + len(payload)) % 8
    padding += 8 if padding < 4 else 0
    return struct.pack(">IB", 1 + len(payload) + padding, padding) + payload + bytes(padding)


@contextlib.contextmanager
def beside(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """This program once more, doing something else until its standard input ends."""
    command = [sys.executable, __file__, *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def besieged(port: int, sources: dict[str, int]) -> Iterator[dict[str, str]]:
    """All three kinds; what each says of itself, once a second."""
    said: dict[str, str] = {}

    def listen(kind: str, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            said[kind] = line.strip()

    with contextlib.ExitStack() as stack:
        for kind, count in sources.items():
            process = stack.enter_context(beside("--besiege", kind, str(port), str(count)))
            threading.Thread(target=listen, args=(kind, process), daemon=True).start()
        yield said


def knock(port: int, key_file: str) -> None:
    """Log in LOGINS times a second, every other time from a new address, until nobody listens; then say how it went."""
    key = load_key(Path(key_file))
    times: dict[str, list[float]] = {"usual": [], "new": []}
    failures: dict[str, list[str]] = {"usual": [], "new": []}

    def once(kind: str, source: str) -> None:
        began = time.perf_counter()
        try:
            with Client(port, source=source, seconds=30) as client:
                client.login("alice", key)
                times[kind].append(time.perf_counter() - began)
        except Exception as error:
            failures[kind].append(f"from {source}: {error!r} after {time.perf_counter() - began:.1f} s")

    with ThreadPoolExecutor(16) as pool:
        for number in itertools.count():
            new = number % 2
            source = f"127.200.{number // 250 % 250}.{1 + number % 250}" if new else "127.0.0.1"
            pool.submit(once, "new" if new else "usual", source)
            if select.select([0], [], [], 1 / LOGINS)[0]:
                break
    print(json.dumps({"times": times, "failures": failures}), flush=True)


def decoy() -> None:
    """A door that takes what comes and answers nothing: what besiegers cost a machine by themselves."""
    _stand_back()
    selector = selectors.DefaultSelector()
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    listener.setblocking(False)
    print(listener.getsockname()[1], flush=True)
    selector.register(0, selectors.EVENT_READ)
    selector.register(listener, selectors.EVENT_READ)
    inside: dict[int, socket.socket] = {}
    while True:
        for key, _ in selector.select():
            if key.fileobj == 0:
                return
            try:
                if key.fileobj is listener:
                    sock = listener.accept()[0]
                    sock.setblocking(False)
                    inside[sock.fileno()] = sock
                    selector.register(sock, selectors.EVENT_READ)
                    if len(inside) > INSIDE:  # as a relay does, it sends the oldest away
                        _leave(selector, inside.pop(next(iter(inside))))
                elif key.fd in inside and not inside[key.fd].recv(2048):  # else it was sent away a moment ago
                    _leave(selector, inside.pop(key.fd))
            except OSError:
                continue


def _stand_back() -> None:
    """Run when a core has nothing else to do; where relay and client run before everybody, like everybody."""
    first = os.sched_getscheduler(0) == os.SCHED_RR
    os.sched_setscheduler(0, os.SCHED_OTHER if first else os.SCHED_IDLE, os.sched_param(0))


def _leave(selector: selectors.BaseSelector, sock: socket.socket) -> None:
    selector.unregister(sock)
    sock.close()


# ---- what is measured


class Bench:
    """The figures of all scenarios."""

    def __init__(self, directory: Path, seconds: float) -> None:
        self.directory = directory
        self.seconds = seconds
        self.missed = 0

    def verdict(self, what: str, figure: float, bound: float, unit: str) -> None:
        """One line; a figure up to the bound passes."""
        good = figure <= bound
        self.missed += not good
        print(f"{'pass' if good else 'MISS'}  {what}: {figure:.4g} {unit} (bound {bound:.4g})", flush=True)

    @contextlib.contextmanager
    def relay(self, settings: str = "", policy: str = POLICY, *, start: bool = True) -> Iterator[Relay]:
        """A relay with a site of its own."""
        with tempfile.TemporaryDirectory(dir=self.directory) as directory:
            one = Relay(Path(directory), policy, settings)
            one.listener.listen(BACKLOG)  # as it does itself; a dropped SYN comes again after a second
            try:
                yield one.start() if start else one
            finally:
                one.end()

    # ---- siege

    def siege(self) -> None:
        """Known keys log in and echoes go on, whatever strangers do."""
        self._besieged({"silent": 100, "flood": 10, "exchange": 10}, anywhere=True)

    def botnet(self) -> None:
        """The same where each stranger has an address of its own."""
        self._besieged({"silent": 500, "flood": 100, "exchange": 250}, anywhere=False)

    def _besieged(self, sources: dict[str, int], *, anywhere: bool) -> None:
        with self.relay(EXEMPT_NOBODY) as one, echo_server() as port, Client(one.port) as client:
            if os.sched_getscheduler(0) == os.SCHED_RR:
                for thread in os.listdir(f"/proc/{one.pid}/task"):
                    os.sched_setscheduler(int(thread), os.SCHED_RR, os.sched_param(SECOND))
            client.login("alice", load_key(one.key))
            number, channel = client.open("remote", port)
            self._echoes(client, number, channel, 2)
            idle = self._echoes(client, number, channel, self.seconds / 2)
            with beside("--decoy") as door:
                assert door.stdout is not None
                with besieged(int(door.stdout.readline()), sources):
                    time.sleep(5)  # until the silent ones are all there
                    elsewhere = self._echoes(client, number, channel, self.seconds / 2)
            with besieged(one.port, sources) as said:
                time.sleep(5)
                before = self._spent(one)
                began = time.monotonic()
                with beside("--knock", str(one.port), str(one.key)) as knocking:
                    loaded = self._echoes(client, number, channel, self.seconds)
                    spent = [
                        (now - then) / (time.monotonic() - began)
                        for now, then in zip(self._spent(one), before, strict=True)
                    ]
                    figures = control_client.call(one.state, {"do": "limits"})
                    assert knocking.stdin is not None
                    assert knocking.stdout is not None
                    knocking.stdin.close()
                    told = json.loads(knocking.stdout.readline())
                for kind, line in sorted(said.items()):
                    print(f"      {kind}: {line}")
        used = ", ".join(f"{row['limit']} {row['used']:g}/{row['most']:g}" for row in figures.get("limits", [])[:5])
        print(f"      at the door: {used}")
        print(f"      of a core: supervisor {spent[0]:.0%}, workers {' '.join(f'{one:.0%}' for one in spent[1:])}")
        for name, echoes in (("idle", idle), ("siege of another door", elsewhere), ("siege", loaded)):
            print(f"      echo, {name}: p50 {_ms(echoes, 50)}, p90 {_ms(echoes, 90)}, p99 {_ms(echoes, 99)} ms")
        for kind, where in (("usual", "the usual place"), ("new", "new addresses")):
            times, failures = told["times"][kind], told["failures"][kind]
            print(
                f"      {len(times)} log-ins from {where}: p50 {_ms(times, 50)} ms, p95 {_ms(times, 95)} ms, "
                f"longest {max(times, default=0) * 1000:.0f} ms; {len(failures)} failed"
            )
            for failure in failures[:3]:
                print(f"      {failure}")
            if kind == "usual" or anywhere:
                self.verdict(f"log-ins from {where} that failed", len(failures), 0, "")
                self.verdict(f"log-in from {where}, p95", _quantile(times, 95), 1, "s")
        self.verdict("echo under siege, p99 / idle p99", _quantile(loaded, 99) / _quantile(idle, 99), 2, "times")
        self.verdict("the same / siege of another door", _quantile(loaded, 99) / _quantile(elsewhere, 99), 2, "times")

    def _spent(self, one: Relay) -> list[float]:
        return [cpu_now([pid]) for pid in (one.pid, *one.worker_pids())]

    def _echoes(self, client: Client, number: int, channel: int, seconds: float) -> list[float]:
        times = []
        end = time.perf_counter() + seconds
        spent = 0
        while (began := time.perf_counter()) < end:
            client.write(channel, b"x" * 32)
            client.read(number, 32)
            times.append(time.perf_counter() - began)
            spent += 32
            if spent > 1 << 20:
                client.send(bytes([hostile.WINDOW_ADJUST]) + uint32(channel, spent))
                spent = 0
            time.sleep(ECHO_EVERY)
        return times

    # ---- idle

    def idle(self) -> None:
        """2,000 who are logged in."""
        policy = POLICY.replace("allow: [alice]", "allow: [alice, bob]")
        # as an installed relay is: what is compiled at each start leaves a megabyte of holes in each process
        compileall.compile_dir(Path(__file__).resolve().parents[1] / "relay", quiet=1)
        with self.relay("limits: {handshakes: 1000}\n", policy) as one:
            one.person("bob")
            one.ctl("reload")
            before = _memory(one)
            keys = {person: load_key(one.directory / person) for person in ("alice", "bob")}
            clients: list[Client] = []

            def enter(number: int) -> None:
                person = ("alice", "bob")[number % 2]
                clients.append(Client(one.port, seconds=60).login(person, keys[person]))

            began = time.monotonic()
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(enter, range(2000)))
            took = time.monotonic() - began
            time.sleep(2)
            after = _memory(one)
            print(
                f"      {before:.1f} MB before, {took:.1f} s for 2,000 log-ins, "
                f"{(after - before) * 1000 / 2000:.1f} kB for each"
            )
            self.verdict("memory of all processes with 2,000 logged in", after, 100, "MB")
            for client in clients:
                client.sock.close()

    # ---- cold

    def cold(self) -> None:
        """200 `ssh -J` that wait for the relay to start."""
        with self.relay(start=False) as one:
            sshd = Sshd(one.directory, [HERE]).start()
            try:
                Lan(one, sshd)
                options = one.ssh_options()
                config = Path(options[1])
                config.write_text(config.read_text().replace("ConnectTimeout 20", "ConnectTimeout 120"))
                (one.directory / "known_hosts").write_text(f"[{HERE}]:{sshd.port} {sshd.host_line}\n")
                command = ["ssh", *options, "-o", "StrictHostKeyChecking=no", "-J", "relay", "remote", "true"]
                began = time.monotonic()
                started = [
                    subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
                    for _ in range(200)
                ]
                one.start()
                failed = []
                for process in started:
                    _, said = process.communicate(timeout=300)
                    if process.returncode:
                        failed.append(said)
                print(f"      all had come and gone after {time.monotonic() - began:.1f} s")
                self.verdict("of 200 simultaneous ssh -J at a cold start, failed", len(failed), 0, "")
                for said in failed[:3]:
                    print(f"      {said.strip()[-300:]}")
            finally:
                sshd.end()

    # ---- refused

    def refused(self) -> None:
        """10,000 opens that are denied."""
        with self.relay("limits: {scan_targets: 1000}\n") as one, contextlib.ExitStack() as stack:
            key = load_key(one.key)
            clients = [stack.enter_context(Client(one.port)) for _ in range(20)]
            for client in clients:
                client.login("alice", key)
                client.refused("nowhere", 22)
            sizes = [_memory(one)]
            began = time.monotonic()
            for batch in range(10):
                for number, client in enumerate(clients):
                    targets = (f"127.0.{batch}.{1 + (number + port) % 250}" for port in range(100))
                    client.send(*(client.ask(target, 22)[1] for target in targets))
                    for _ in range(100):
                        client.expect(hostile.OPEN_FAILURE)
                if batch in (4, 9):
                    sizes.append(_memory(one))
            took = time.monotonic() - began
            shown = " MB, ".join(f"{size:.1f}" for size in sizes)
            print(f"      {shown} MB after 0, 10,000 and 20,000; {20_000 / took:.0f} refusals a second")
            self.verdict("memory that 10,000 more refused opens take", sizes[2] - sizes[1], 4, "MB")


def _memory(one: Relay) -> float:
    """MB (10^6) of all processes of a relay."""
    return (memory([one.pid, *one.worker_pids()]) or 0) * 1.048576


def _quantile(times: list[float], percent: int) -> float:
    return statistics.quantiles(times, n=100)[percent - 1] if len(times) > 1 else float("inf")


def _ms(times: list[float], percent: int) -> str:
    return f"{_quantile(times, percent) * 1000:.2f}"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("scenarios", nargs="*", metavar="siege|botnet|idle|cold|refused")
    parser.add_argument("--seconds", type=float, default=20.0, help="of siege")
    parser.add_argument("--besiege", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--knock", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--decoy", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--first", action="store_true", help="run before everybody else on this machine (root)")
    chosen = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if chosen.besiege:
        kind, port, sources = chosen.besiege
        Siege(kind, int(port), int(sources)).run(lambda line: print(line, flush=True))
        return
    if chosen.knock:
        knock(int(chosen.knock[0]), chosen.knock[1])
        return
    if chosen.decoy:
        decoy()
        return
    if chosen.first:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(FIRST))
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, load before {load:.1f} (others' work counts against the relay here)")
    with tempfile.TemporaryDirectory(prefix="relay-load-") as directory:
        bench = Bench(Path(directory), chosen.seconds)
        for name in chosen.scenarios or ("siege", "botnet", "idle", "cold", "refused"):
            print(f"{name}:")
            getattr(bench, name)()
    sys.exit(bool(bench.missed))


if __name__ == "__main__":
    main()

"""`make soak`: a relay under random load for half an hour, while its processes are killed, reloaded and replaced.

    python tools/soak.py [MINUTES] [--seed N]

Clients come and go, open forwards, copy data and compare it with what they sent, break off in the middle, ask for what
they may not have; unauthenticated clients send nonsense. In the first third the relay meets only what an administrator
does: reloads, revocations, kills of connections, restarts by systemd. Then workers and supervisors are killed too.
Once a minute all clients leave, and what is left is checked:

- no descriptor more than a relay has that was just started, in any process;
- memory is flat: after the first minutes no process grows;
- each forward that was opened has exactly one closing row, the chain is intact;
- no byte was wrong, nothing in the log is a bug of ours.

Exit status 1 when something of that does not hold. Everything is on 127.0.0.0/8 and in a temporary directory.
"""

import argparse
import contextlib
import os
import random
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from relay.serve import control_client
from tests.relay_process import Relay, echo_server
from tests.serve import hostile
from tests.serve.hostile import Client, Gone, load_key
from tests.serve.traffic import Books

PERSONS = ("alice", "bob", "carol", "dave")
VISITORS = 6
POLICY = """\
zones:
  here: {{networks: [127.0.0.0/8], interface: lo}}
hosts:
  remote: {{address: 127.0.0.2, zone: here}}
rules:
  - {{name: all, allow: [{persons}], to: [remote], ports: ["1024-65535"]}}
"""
SETTINGS = "workers: {workers}\nlimits: {{stop: 2s, handshakes: 1000, scan_targets: 1000}}\n"
SPARE_DESCRIPTORS = 6  # a question of the control socket, a database's log, a timer
GROWTH = 12.0  # MiB that a process may grow after it has served for two minutes
HOME_SECONDS = 40.0  # for everybody to have gone, and for workers that drain to end


class Soak:
    """One run."""

    def __init__(self, directory: Path, dice: random.Random) -> None:
        self.dice = dice
        self.relay = Relay(
            directory, POLICY.format(persons=", ".join(PERSONS)), SETTINGS.format(workers=2), by_systemd=True
        )
        for person in PERSONS[1:]:
            self.relay.person(person)
        self.faults: list[str] = []
        self.visits: Counter[str] = Counter()
        self.deeds: Counter[str] = Counter()
        self.bytes = 0
        self.port = 0
        self._open = threading.Event()  # visitors may come
        self._over = False
        self._inside = 0
        self._lock = threading.Lock()
        self._fresh: dict[str, int] = {}  # descriptors of a relay that was just started
        self._memory: dict[int, list[float]] = {}  # process -> MiB at each look

    # ---- people

    def visitor(self, dice: random.Random) -> None:
        """One after another, until it is over."""
        while not self._over:
            self._open.wait()
            with self._lock:
                self._inside += 1
            kind = dice.choice(
                (self._copy, self._copy, self._copy, self._stay, self._scan, self._stranger, self._vanish)
            )
            word = "good"
            try:
                kind(dice)
            except (Gone, OSError, AssertionError) as error:  # its worker, its key or its policy is gone
                word = _short(error)
            except Exception as error:
                self.faults.append(f"a visitor found {error!r}")
                word = "broken"
            with self._lock:
                self._inside -= 1
                self.visits[word] += 1
            time.sleep(dice.random() * 0.3)

    def _in(self, dice: random.Random) -> Client:
        person = dice.choice(PERSONS)
        client = Client(self.relay.port, seconds=30)
        try:
            return client.login(person, load_key(self.relay.directory / person))
        except BaseException:
            client.sock.close()
            raise

    def _copy(self, dice: random.Random) -> None:
        with self._in(dice) as client:
            for _ in range(dice.randint(1, 4)):
                number, channel = client.open("remote", self.port)
                self._exchange(client, number, channel, dice.randint(1, 200_000), dice)
                if dice.random() < 0.7:
                    client.send(bytes([hostile.CLOSE]) + hostile.uint32(channel))

    def _stay(self, dice: random.Random) -> None:
        with self._in(dice) as client:
            channels = [client.open("remote", self.port) for _ in range(dice.randint(1, 8))]
            end = time.monotonic() + dice.uniform(1, 20)
            while time.monotonic() < end and self._open.is_set():
                self._exchange(client, *dice.choice(channels), dice.randint(1, 2000), dice)
                time.sleep(dice.random() * 0.2)

    def _exchange(self, client: Client, number: int, channel: int, size: int, dice: random.Random) -> None:
        data = dice.randbytes(size)
        client.write(channel, data)
        found = client.read(number, size)
        if found != data:
            self.faults.append(f"{size} bytes came back changed")
        with self._lock:
            self.bytes += 2 * size

    def _scan(self, dice: random.Random) -> None:
        with self._in(dice) as client:
            for _ in range(dice.randint(1, 40)):
                client.refused(f"127.0.0.{dice.randint(3, 250)}", dice.randint(1, 65535))
            client.refused("", 0, kind="session")

    def _stranger(self, dice: random.Random) -> None:
        with Client(self.relay.port, exchange=False, seconds=30) as client:
            match dice.randint(0, 3):
                case 0:
                    client.send_raw(dice.randbytes(dice.randint(1, 5000)))
                    client.gone()
                case 1:
                    client.hello()
                    client.sock.close()
                case 2:
                    client.hello()
                    client.exchange()
                    client.service()
                    client.offer("mallory", hostile.public_blob(Ed25519PrivateKey.generate()))
                case _:
                    time.sleep(dice.random())

    def _vanish(self, dice: random.Random) -> None:
        """In the middle of its openings, some of its bytes unread."""
        with self._in(dice) as client:
            channels = [client.open("remote", self.port) for _ in range(dice.randint(1, 3))]
            client.write(channels[0][1], dice.randbytes(100_000))
            client.send(*(client.ask("remote", self.port)[1] for _ in range(dice.randint(1, 20))))
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, dice.choice((b"\1", b"\0")) + bytes(7))

    # ---- what happens to the relay

    def deed(self, *, killing: bool) -> None:
        """One of the things that happen."""
        gentle: list[Callable[[], None]] = [self._reload, self._hang_up, self._revoke, self._kill, self._restart]
        rough: list[Callable[[], None]] = [self._kill_worker, self._kill_worker, self._kill_supervisor, self._stop]
        chosen = self.dice.choice(gentle + rough if killing else gentle)
        chosen()
        self.deeds[chosen.__name__.strip("_").replace("_", " ")] += 1

    def _reload(self) -> None:
        self.relay.settings(SETTINGS.format(workers=self.dice.choice((1, 2, 2, 3))))
        persons = PERSONS[: self.dice.choice((3, 4, 4, 4))]
        self.relay.policy(POLICY.format(persons=", ".join(persons)))
        self.relay.ctl("reload")

    def _hang_up(self) -> None:
        self.relay.policy(POLICY.format(persons=", ".join(PERSONS)))
        os.kill(self.relay.pid, signal.SIGHUP)

    def _revoke(self) -> None:
        person = self.dice.choice(PERSONS)
        self.relay.ctl("revoke-key", person)
        self.relay.person(person)
        self.relay.ctl("reload")

    def _kill(self) -> None:
        self.relay.ctl("kill", self.dice.choice(PERSONS), "--reason", "soak", status=None)

    def _kill_worker(self) -> None:
        found = self.relay.worker_pids()
        if found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.dice.choice(found), signal.SIGKILL)

    def _kill_supervisor(self) -> None:
        self.relay.kill_supervisor()
        time.sleep(self.dice.random() * 3)
        self.relay.start()

    def _restart(self) -> None:
        self._end(signal.SIGTERM)
        self.relay.start()

    def _stop(self) -> None:
        """A stop for good, then a start."""
        self._end(signal.SIGINT)
        self.relay.start()

    def _end(self, number: int) -> None:
        if self.relay.stop(number) != 0:
            self.faults.append("it ended with another status than 0")

    # ---- the looks

    def look(self, minute: float, *, books: bool, calm: bool) -> None:
        """Everybody goes home; then what is left is counted."""
        self._open.clear()
        deadline = time.monotonic() + HOME_SECONDS
        while time.monotonic() < deadline and not (self._inside == 0 and self._is_home()):
            time.sleep(0.1)
        if not self._is_home():
            said = [line for line in self.relay.log().splitlines() if "worker" in line][-8:]
            self.faults.append(
                f"after {HOME_SECONDS:g} s not everybody is home: {self._inside} inside, processes "
                f"{self.relay.worker_pids()}, status {self._status()}, log {said}"
            )
        counts = {pid: len(os.listdir(f"/proc/{pid}/fd")) for pid in self._pids()}
        for pid, count in counts.items():
            kind = "supervisor" if pid == self.relay.pid else "worker"
            # a relay carries one link more for each worker it has
            links = len(counts) - 1 if kind == "supervisor" else 0
            fresh = self._fresh.setdefault(kind, count - links)
            if count - links > fresh + SPARE_DESCRIPTORS:
                self.faults.append(f"the {kind} {pid} has {count} descriptors, a fresh one {fresh + links}")
        sizes = {pid: _pss(pid) for pid in counts}
        for pid, size in sizes.items():
            grown = self._memory.setdefault(pid, [])
            grown.append(size)
            if len(grown) > 3 and size - grown[2] > GROWTH:
                self.faults.append(f"process {pid} grew from {grown[2]:.1f} to {size:.1f} MiB")
        said = ""
        if books:
            found = Books.read(self.relay.state)
            self.faults += found.faults + [f"{forward} has no closing row" for forward in found.still_open]
            said = f", {found.openings} forwards in {found.rows} rows: " + _counted(found.reasons)
        log = self.relay.log()
        os.truncate(self.relay.directory / "relay.log", 0)  # it is appended to
        if "a bug of ours" in log or "Traceback" in log:
            at = max(log.find("a bug of ours"), log.find("Traceback"))
            self.faults.append(f"the log: {log[max(at - 500, 0) : at + 2000]}")
        print(
            f"{minute:5.1f} min {'calm ' if calm else 'storm'} {sum(self.visits.values())} visits, "
            f"{self.bytes / 1e6:.0f} MB, {max(sizes.values()):.1f} MiB in the largest of {len(sizes)} processes, "
            f"{sum(sizes.values()):.1f} in all, descriptors {'+'.join(map(str, sorted(counts.values())))}{said}",
            flush=True,
        )
        self._open.set()

    def _pids(self) -> list[int]:
        return [self.relay.pid, *self.relay.worker_pids()]

    def _status(self) -> dict[str, object]:
        with contextlib.suppress(Exception):
            return control_client.call(self.relay.state, {"do": "status"})
        return {}

    def _is_home(self) -> bool:
        status = self._status()
        workers = status.get("workers")
        return (
            isinstance(workers, list)
            and not any(worker["connections"] or worker["draining"] for worker in workers)
            and bool(workers)
            and len(workers) == len(self.relay.worker_pids())
            and status["forwards"] == 0
        )

    # ---- all of it

    def run(self, minutes: float) -> bool:
        """Whether it all held."""
        with echo_server() as self.port:
            self.relay.start()
            time.sleep(1)
            began = time.monotonic()
            self.look(0, books=True, calm=True)
            threads = [
                threading.Thread(target=self.visitor, args=(random.Random(self.dice.random()),), daemon=True)
                for _ in range(VISITORS)
            ]
            for thread in threads:
                thread.start()
            next_look, looks = began + min(60, minutes * 20), 0
            try:
                while not self.faults and (now := time.monotonic()) < began + minutes * 60:
                    calm = now < began + minutes * 20
                    time.sleep(self.dice.uniform(1, 6))
                    self.deed(killing=not calm)
                    if time.monotonic() > next_look:
                        looks += 1
                        self.look((time.monotonic() - began) / 60, books=looks % 5 == 0, calm=calm)
                        next_look = time.monotonic() + min(60, minutes * 20)
                self.look((time.monotonic() - began) / 60, books=True, calm=False)
            finally:
                self._over = True
                self._open.set()
                for thread in threads:
                    thread.join(60)
                self.relay.end()
        print(f"visits: {_counted(self.visits)}\nwhat happened: {_counted(self.deeds)}")
        for fault in self.faults:
            print(f"FAULT: {fault}")
        return not self.faults


def _pss(pid: int) -> float:
    """MiB that a process has of its own, shared pages in part (proc_pid_smaps(5))."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) / 1024


def _short(error: BaseException) -> str:
    """What a visitor was told, without what is different each time."""
    text = str(error).partition(" (id ")[0]
    return text[max(text.find("relay: "), 0) :][:60] or type(error).__name__


def _counted(counts: "Counter[str]") -> str:
    return ", ".join(f"{count} {what}" for what, count in counts.most_common(12))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("minutes", nargs="?", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    chosen = parser.parse_args()
    print(f"{chosen.minutes:g} minutes, seed {chosen.seed} (--seed plays the same dice)", flush=True)
    with tempfile.TemporaryDirectory(prefix="relay-soak-") as directory:
        held = Soak(Path(directory), random.Random(chosen.seed)).run(chosen.minutes)
    print("all of it held" if held else "it did not hold")
    sys.exit(not held)


if __name__ == "__main__":
    main()

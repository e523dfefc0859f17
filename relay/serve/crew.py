"""Which workers are there, and what does each carry? Starting, replacing and losing worker processes."""

import asyncio
import fcntl
import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from relay.core.ids import SLOTS
from relay.serve.protocol import VERSION, Link, Message

BACKOFF = (0.2, 30.0)  # seconds before a worker that died is replaced: first, and most
HEALTHY_SECONDS = 60.0  # a worker that lived that long resets the back-off


@dataclass(eq=False)
class Member:
    """One worker that has said hello."""

    name: str
    link: Link
    pid: int
    slot: int
    ours: bool  # started by this supervisor: gets new clients; others serve what they have
    ready: bool = False
    connections: set[str] = field(default_factory=set)


class Crew:
    """The workers. `joined` and `lost` are called in the loop."""

    def __init__(
        self,
        state: Path,
        received: Callable[[Member, Message], None],
        joined: Callable[[Member], None],
        lost: Callable[[Member], None],
        say: Callable[[str], None],
    ) -> None:
        self._run = state / "run"
        self._state = state
        self._received = received
        self._joined = joined
        self._lost = lost
        self._say = say
        self._loop = asyncio.get_running_loop()
        self._listener: socket.socket | None = None
        self._strangers: set[Link] = set()
        self.members: dict[str, Member] = {}
        self._started: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._number = 0
        # in a container every supervisor has the same process id: two lives must not share a worker's name
        self._born = f"{time.time_ns() // 1_000_000:x}"
        self.stopping = False
        self.empty = asyncio.Event()  # no worker is joined
        self.empty.set()

    def listen(self) -> None:
        """Listen for workers at run/workers.sock; a socket left by a dead supervisor is replaced."""
        path = self._run / "workers.sock"
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        path.chmod(0o600)
        self._listener.listen(64)
        self._listener.setblocking(False)
        self._loop.add_reader(self._listener.fileno(), self._accept)

    def start(self, count: int) -> None:
        """Keep `count` workers of our own running."""
        for _ in range(count):
            task = asyncio.create_task(self._keep_one(), name="keep a worker")
            self._tasks.add(task)

    def close(self) -> None:
        """Start no more, and stop listening."""
        self.stopping = True
        for task in self._tasks:
            task.cancel()
        if self._listener is not None:
            self._loop.remove_reader(self._listener.fileno())
            self._listener.close()

    def least_loaded(self) -> Member | None:
        """The worker that gets the next client."""
        able = [member for member in self.members.values() if member.ours and member.ready]
        return min(able, key=lambda member: len(member.connections), default=None)

    def alive(self, name: str) -> bool:
        """Whether a worker of that name runs, joined or not: it holds its lock."""
        try:
            descriptor = os.open(self._run / f"{Path(name).name}.lock", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(descriptor)
        return False

    async def _keep_one(self) -> None:
        delay = BACKOFF[0]
        while True:  # `close` cancels it
            self._number += 1
            name = f"w{os.getpid()}-{self._born}-{self._number}"
            self._started.add(name)
            began = time.monotonic()
            try:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-P",
                    "-m",
                    "relay.serve.worker",
                    str(self._state),
                    name,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    start_new_session=True,  # the terminal's Ctrl-C is for the supervisor, who ends its workers
                    env={key: value for key, value in os.environ.items() if key not in _SYSTEMD},
                )
                status = await process.wait()
                if self.stopping:
                    return
                # status 0 too: somebody ended it with SIGTERM, and clients still come
                self._say(f"worker {name} ended with status {status}; starting another in {delay:.1f} s")
            except OSError as error:
                self._say(f"a worker cannot be started: {error}; trying again in {delay:.1f} s")
            if time.monotonic() - began > HEALTHY_SECONDS:
                delay = BACKOFF[0]
            await asyncio.sleep(delay)
            delay = min(delay * 2, BACKOFF[1])

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        self._strangers.add(Link(sock, self._message, self._gone))

    def _message(self, link: Link, message: Message, descriptor: int | None) -> None:
        if descriptor is not None:
            os.close(descriptor)  # workers send none
        member = next((member for member in self.members.values() if member.link is link), None)
        if member is not None:
            self._received(member, message)
        elif message.get("t") == "hello" and message.get("v") == VERSION:
            self._strangers.discard(link)
            self._hello(link, message)
        else:
            link.close()

    def _hello(self, link: Link, message: Message) -> None:
        name = str(message["name"])
        former = self.members.get(name)
        if former is not None:  # it is back before the end of its old link was seen
            former.link.close()
            self._gone(former.link)
        taken = {member.slot for member in self.members.values()}
        wanted = message.get("slot")
        free = next(slot for slot in range(1, SLOTS - 1) if slot not in taken)
        slot = wanted if isinstance(wanted, int) and wanted not in taken else free
        member = Member(name, link, int(message["pid"]), slot, name in self._started)
        self.members[name] = member
        self.empty.clear()
        self._joined(member)

    def _gone(self, link: Link) -> None:
        self._strangers.discard(link)
        member = next((member for member in self.members.values() if member.link is link), None)
        if member is not None:
            del self.members[member.name]
            if not self.members:
                self.empty.set()
            self._lost(member)


_SYSTEMD = frozenset({"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"})

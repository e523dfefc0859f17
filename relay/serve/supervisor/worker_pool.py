"""The worker processes: started, resized, replaced and watched."""

import asyncio
import fcntl
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relay.core.escape import escape
from relay.core.ids import SLOTS
from relay.serve.ipc import OLDEST, VERSION, IpcLink, Message
from relay.serve.supervisor import listeners
from relay.serve.ticker import run_ticker

BACKOFF = (0.2, 30.0)  # seconds before a worker that died is replaced: first, and most
HEALTHY_SECONDS = 60.0  # a worker that lived that long resets the back-off
PING_SECONDS = 2.0
SILENT_SECONDS = 10.0  # a worker that has not answered for that long gets no new clients
HUNG_SECONDS = 60.0  # and after that one of our own is killed: its clients have given it up as well
FLUSH_SECONDS = 5.0  # at a hand-over: for what is still to be sent
NOT_OURS_SECONDS = 5.0  # a worker of another protocol is told to end, giving its forwards that long


@dataclass(eq=False)
class WorkerHandle:
    """One worker that has said hello."""

    name: str
    link: IpcLink
    pid: int
    slot: int
    ours: bool  # started by this supervisor: gets new clients; others serve what they have
    release: str = ""
    can: frozenset[str] = frozenset()  # kinds of questions that its release understands
    slow: str = ""  # why its bytes do not go the fast path (see contract)
    ready: bool = False
    draining: bool = False
    answered: float = 0.0  # loop time of its last sign of life
    connections: set[str] = field(default_factory=set)
    parts: dict[str, float] = field(default_factory=dict)  # of persons' rates, as it was last told
    use: dict[str, Any] = field(default_factory=dict)  # of what only it can count: its last message `use`


@dataclass(eq=False)
class _WorkerProcess:
    """One worker of ours that is kept running."""

    process: "subprocess.Popen[bytes] | None" = None
    name: str = ""
    task: "asyncio.Task[None] | None" = None
    wanted: bool = True


class WorkerPool:
    """The workers. `joined` and `lost` are called in the loop."""

    def __init__(
        self,
        state: Path,
        received: Callable[[WorkerHandle, Message], None],
        joined: Callable[[WorkerHandle], None],
        lost: Callable[[WorkerHandle], None],
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
        self._strangers: set[IpcLink] = set()
        self.members: dict[str, WorkerHandle] = {}
        self._linked: dict[IpcLink, WorkerHandle] = {}  # the same ones
        self._places: list[_WorkerProcess] = []
        self._started: set[str] = set()
        self._served: set[str] = set()  # those that were joined at some time, and may still run
        self._pinging: asyncio.Task[None] | None = None
        self._reserved: dict[int, str] = {}  # slots of workers that are alive and have not joined yet
        self._number = 0
        # in a container every supervisor has the same process id: two lives must not share a worker's name
        self._born = f"{time.time_ns() // 1_000_000:x}"
        self.stopping = False
        self.empty = asyncio.Event()  # no worker is joined
        self.empty.set()

    def listen(self) -> None:
        """Listen at run/workers.sock for workers that lost their supervisor."""
        # before the control socket is opened: without them `list` and `kill` would answer as if nothing were open
        self._reserved = self._look_for_others()
        self._listener = listeners.local(self._run / "workers.sock")
        self._loop.add_reader(self._listener.fileno(), self._accept)

    def start(self, count: int) -> None:
        """Keep `count` workers of our own running, and ask each of them whether it is alive."""
        self.resize(count)
        self._pinging = asyncio.create_task(self._ping(), name="ask the workers")

    def resize(self, count: int, drain: float = 0.0) -> None:
        """From now on `count` of them: more are started; those too many take nothing new and end within `drain` s."""
        if self.stopping:
            return
        wanted = [place for place in self._places if place.wanted]
        for _ in range(count - len(wanted)):
            place = _WorkerProcess()
            self._places.append(place)
            place.task = asyncio.create_task(self._keep(place), name="keep a worker")
        # those with the fewest connections, as they will be empty first
        wanted.sort(key=lambda place: len(self.members[place.name].connections) if place.name in self.members else -1)
        for place in wanted[: max(len(wanted) - count, 0)]:
            place.wanted = False
            member = self.members.get(place.name)
            if member is not None:
                member.draining = True
                member.link.send({"t": "drain", "seconds": drain})
            elif place.process is not None:
                place.process.terminate()

    def stop(self) -> None:
        """Start no more."""
        self.stopping = True
        for place in self._places:
            if place.task is not None:
                place.task.cancel()
        if self._pinging is not None:
            self._pinging.cancel()

    def close(self) -> None:
        """Let go of all workers, and let none join any more."""
        self.stop()
        for member in tuple(self.members.values()):
            member.link.close()
        for link in tuple(self._strangers):
            link.close()
        if self._listener is not None:
            self._loop.remove_reader(self._listener.fileno())
            self._listener.close()
            self._listener = None

    async def flush(self) -> None:
        """Wait, not for long, until every worker has been sent what waits for it."""
        deadline = self._loop.time() + FLUSH_SECONDS
        while any(member.link.open and not member.link.idle for member in self.members.values()):
            if self._loop.time() > deadline:
                return
            await asyncio.sleep(0.01)

    def kill(self) -> None:
        """End the workers of our own at once, without their closing rows."""
        for place in self._places:
            if place.process is not None and place.process.returncode is None:
                place.process.kill()

    def least_loaded(self) -> WorkerHandle | None:
        """The worker that gets the next client."""
        able = [member for member in self.members.values() if _able(member) and self.answers(member)]
        return min(able, key=lambda member: len(member.connections), default=None)

    def answers(self, member: WorkerHandle, seconds: float | None = None) -> bool:
        """Whether it has answered within so many seconds (None: within those that a new client may wait)."""
        return member.answered > self._loop.time() - (SILENT_SECONDS if seconds is None else seconds)

    def answering(self, seconds: float) -> bool:
        """Whether every worker that is to take clients has answered within so many seconds, and there is one."""
        able = [member for member in self.members.values() if _able(member)]
        return bool(able) and all(self.answers(member, seconds) for member in able)

    def alive(self, name: str) -> bool:
        """Whether a worker of that name runs, joined or not: it holds its lock."""
        return _is_held(self._run / f"{Path(name).name}.lock")

    def absent(self) -> tuple[str, ...]:
        """Workers that run and carry something, but are not joined: those of a supervisor before, or of a lost link."""
        known = self._served | set(self._reserved.values())
        gone = {name for name in known - self.members.keys() if not self.alive(name)}
        self._served -= gone
        return tuple(sorted(known - self.members.keys() - gone))

    def forget(self, name: str) -> None:
        """A worker that is gone has left its lock."""
        _is_held(self._run / f"{Path(name).name}.lock", remove=True)

    # ---- our own

    async def _keep(self, place: _WorkerProcess) -> None:
        delay = BACKOFF[0]
        while place.wanted:  # `close` cancels it
            self._number += 1
            name = place.name = f"w{os.getpid()}-{self._born}-{self._number}"
            self._started.add(name)
            began = time.monotonic()
            try:
                place.process = self._spawn(name)
                status = await _end_of(place.process)
                if self.stopping or not place.wanted:
                    break
                # status 0 too: somebody ended it with SIGTERM, and clients still come
                self._say(f"worker {name} ended with status {status}; starting another in {delay:.1f} s")
            except OSError as error:
                self._say(f"a worker cannot be started: {error}; trying again in {delay:.1f} s")
            if time.monotonic() - began > HEALTHY_SECONDS:
                delay = BACKOFF[0]
            await asyncio.sleep(delay)
            delay = min(delay * 2, BACKOFF[1])
        self._places.remove(place)

    def _spawn(self, name: str) -> "subprocess.Popen[bytes]":
        """Start a worker that has its way to us already. Raises OSError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            try:
                number = str(theirs.fileno())
                process = subprocess.Popen(  # noqa: S603 - our own worker
                    [sys.executable, "-P", "-m", "relay.serve.worker", str(self._state), name, number],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    start_new_session=True,  # the terminal's Ctrl-C is for the supervisor, who ends its workers
                    pass_fds=[theirs.fileno()],
                    env={key: value for key, value in os.environ.items() if key not in _SYSTEMD},
                )
            except BaseException:
                ours.close()
                raise
        self._strangers.add(IpcLink(ours, self._message, self._gone))
        return process

    async def _ping(self) -> None:
        number = 0
        while True:
            number += 1
            for member in tuple(self.members.values()):
                member.link.send({"t": "ping", "n": number})
            await run_ticker(PING_SECONDS)
            before = self._loop.time() - HUNG_SECONDS
            for place in self._places:
                hung = self.members.get(place.name)
                if hung is not None and hung.answered < before and place.process is not None:
                    self._say(f"worker {place.name} has not answered for {HUNG_SECONDS:g} s: it is killed and replaced")
                    place.process.kill()

    # ---- all of them

    def _look_for_others(self) -> dict[int, str]:
        """The slots of those alive; the locks of those that are not are removed."""
        slots = {}
        for path in self._run.glob("w*.lock"):
            if _is_held(path, remove=True):
                words = _words(path)
                if len(words) == 2 and words[0] == "slot" and words[1].isdigit():
                    slots[int(words[1])] = path.stem
        return slots

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        self._strangers.add(IpcLink(sock, self._message, self._gone))

    def _message(self, link: IpcLink, message: Message, descriptor: int | None) -> None:
        if descriptor is not None:
            os.close(descriptor)  # workers send none
        member = self._linked.get(link)
        if member is not None:
            member.answered = self._loop.time()
            self._received(member, message)
        elif message.get("t") != "hello":
            return  # of a worker that was told to end
        elif OLDEST <= int(message.get("v", 0)) <= VERSION:
            self._strangers.discard(link)
            self._hello(link, message)
        else:
            self._say(
                f"worker {message.get('name')} of release {message.get('release')} speaks another protocol: it ends"
            )
            link.send({"t": "stop", "seconds": NOT_OURS_SECONDS})

    def _hello(self, link: IpcLink, message: Message) -> None:
        name = str(message["name"])
        former = self.members.get(name)
        if former is not None:  # it is back before the end of its old link was seen
            former.link.close()
            self._gone(former.link)
        slot = self._slot(name, message.get("slot"))
        member = WorkerHandle(
            name, link, int(message["pid"]), slot, name in self._started, str(message.get("release", ""))
        )
        member.can = frozenset(map(str, message.get("can", ())))
        member.slow = escape(str(message.get("slow", "")), 400)
        if member.slow:
            self._say(f"worker {name} does not use the fast path, everything works at a higher cost: {member.slow}")
        member.draining = member.ours and not any(place.name == name and place.wanted for place in self._places)
        member.answered = self._loop.time()
        self.members[name] = self._linked[link] = member
        self._served.add(name)
        self.empty.clear()
        self._joined(member)

    def _slot(self, name: str, wanted: object) -> int:
        """The slot in which it makes ids: no other worker makes any there now, joined or not."""
        reserved = {slot for slot, other in self._reserved.items() if other != name and self.alive(other)}
        taken = {member.slot for member in self.members.values()} | reserved
        if isinstance(wanted, int) and wanted not in taken:
            return wanted
        # the last ones are the command line's, the checkpoints' and the archives'
        return next(slot for slot in range(1, SLOTS - 3) if slot not in taken)

    def _gone(self, link: IpcLink) -> None:
        self._strangers.discard(link)
        member = self._linked.pop(link, None)
        if member is not None:
            del self.members[member.name]
            if not self.members:
                self.empty.set()
            self._lost(member)


def _able(member: WorkerHandle) -> bool:
    return member.ours and member.ready and not member.draining


def _is_held(path: Path, *, remove: bool = False) -> bool:
    """Whether a living process holds this lock; with `remove` one that nobody holds is taken away."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        if remove:
            path.unlink(missing_ok=True)
        return False
    finally:
        os.close(descriptor)


def _words(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            return file.read(64).decode("ascii", "replace").split()
    except OSError:
        return []


async def _end_of(process: "subprocess.Popen[bytes]") -> int:
    """Wait for the end of a process; its status. Cancelled, the process lives on: it is the next supervisor's."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    try:
        descriptor = os.pidfd_open(process.pid)
    except (AttributeError, OSError):  # not Linux, or forbidden
        while (status := process.poll()) is None:  # noqa: ASYNC110 - nothing tells, so we have to look
            await asyncio.sleep(0.1)
        return status
    try:
        loop.add_reader(descriptor, over.set)
        await over.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    return process.wait()


_SYSTEMD = frozenset({"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"})

"""How does one supervisor take over from another that runs? The talk between the two, over the control socket.

    successor -> predecessor                          predecessor -> successor
      take-over {version, pid, site}                    ok {version, pid, own} + listening sockets and its stderr
      (has its workers ready by now) ready {}           accepts no more, tells its workers, closes the database;
                                                        done {changed} + its stdout
      (has the database, and accepts) serving {}        lets its workers go, who join the successor, and ends

At every step the other one may vanish. Who is left without a `serving` goes on as before; the lock of the audit
database decides in any case, as only one can have it.
"""

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from relay import __version__
from relay.errors import NobodyAnswers, RelayError
from relay.serve.control_client import SOCKET
from relay.serve.supervisor import listeners
from relay.serve.supervisor.control_server import ControlConversation

ANSWER_SECONDS = 10.0
READY_SECONDS = 180.0  # for checking the site, and for workers to start on a small machine
DONE_SECONDS = 40.0  # for writing what waits and closing the database
SERVING_SECONDS = 40.0  # for a migration of the database, among others
MOST_DESCRIPTORS = 250  # SCM_MAX_FD is 253


class RunningSupervisor:
    """The supervisor that runs, as its successor sees it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._data = bytearray()
        self._gone = False  # it has ended the talk
        self._loop = asyncio.get_running_loop()
        self.sockets: list[socket.socket] = []
        self.stderr = -1
        self.stdout = -1  # -1: it did not tell, as it is of a release before the export
        self.own = False  # whether it made the sockets itself, as `listen` says
        self.pid = 0
        self.version = ""

    @classmethod
    async def ask(cls, state: Path, site: str) -> "RunningSupervisor":
        """Ask for its listening sockets. Raises NobodyAnswers, or RelayError with its reason to refuse."""
        path = state / "run" / SOCKET
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        one = cls(sock)
        try:
            await one._loop.sock_connect(sock, str(path))
        except OSError:
            sock.close()
            raise NobodyAnswers(
                f"no relay answers at {path}: there is nothing to take over", "relayctl serve"
            ) from None
        await one._tell({"do": "take-over", "version": __version__, "pid": os.getpid(), "site": site})
        answer, descriptors = await one._hear(ANSWER_SECONDS)
        if not answer.get("ok") or len(descriptors) < 2:
            for descriptor in descriptors:
                os.close(descriptor)
            raise RelayError(
                str(answer.get("problem") or "the relay that runs does not hand over"),
                str(answer.get("hint") or "stop it, and start this one"),
            )
        one.stderr = descriptors.pop()
        one.sockets = [listeners.given(descriptor, "the relay that runs") for descriptor in descriptors]
        one.own = bool(answer.get("own"))
        one.pid = int(answer.get("pid", 0))
        one.version = str(answer.get("version", ""))
        return one

    async def let_go(self) -> bool:
        """We are ready: it stops to accept, and closes the database. Raises RelayError when it does not.

        Gives back whether another policy or other keys have become law since `ask`, or may have: if it was killed
        meanwhile nobody serves but us. The lock of the database, which comes next, tells whether it is really gone.
        """
        try:
            await self._tell({"ready": True})
        except RelayError:
            return True
        answer, descriptors = await self._hear(DONE_SECONDS)
        if descriptors:
            self.stdout = descriptors[0]
        if self._gone and not answer:
            return True
        if not answer.get("done"):
            raise RelayError("the relay that runs did not let go; it goes on", "look at its log")
        return bool(answer.get("changed"))

    async def serving(self, *, adopt_log: bool) -> None:
        """We serve: it may end. With `adopt_log` we write from now on where it wrote."""
        for theirs, ours in ((self.stderr, sys.stderr), (self.stdout, sys.stdout)):
            if theirs >= 0:
                if adopt_log:
                    os.dup2(theirs, ours.fileno())
                os.close(theirs)
        with contextlib.suppress(RelayError):  # it is gone already: we have the database, so it is ours all the same
            await self._tell({"serving": True})
        self._sock.close()

    async def _tell(self, message: dict[str, Any]) -> None:
        try:
            await self._loop.sock_sendall(self._sock, json.dumps(message).encode() + b"\n")
        except OSError:
            raise RelayError("the relay that runs went away", "relayctl serve") from None

    async def _hear(self, seconds: float) -> tuple[dict[str, Any], list[int]]:
        """The next thing it says, with its descriptors; empty when it says nothing."""
        descriptors: list[int] = []
        try:
            async with asyncio.timeout(seconds):
                while b"\n" not in self._data:
                    await self._readable()
                    data, more, _, _ = socket.recv_fds(self._sock, 1 << 16, MOST_DESCRIPTORS)
                    descriptors += more
                    if not data:
                        self._gone = True
                        break
                    self._data += data
            line, _, rest = self._data.partition(b"\n")
            self._data = rest
            answer = json.loads(line)
        except TimeoutError:
            return {}, descriptors
        except OSError:
            self._gone = True
            return {}, descriptors
        except ValueError:
            return {}, descriptors
        return (answer if isinstance(answer, dict) else {}), descriptors

    async def _readable(self) -> None:
        there = asyncio.Event()
        self._loop.add_reader(self._sock.fileno(), there.set)
        try:
            await there.wait()
        finally:
            self._loop.remove_reader(self._sock.fileno())


async def hand_over(
    talk: ControlConversation,
    answer: dict[str, Any],
    descriptors: list[int],
    let_go: Callable[[], Awaitable[bool]],
    go_on: Callable[[], Awaitable[bool]],
) -> bool:
    """The predecessor's part: whether the successor serves now.

    `let_go` closes the door and the database, and says whether the law has changed since `answer`; `go_on` opens both
    again, and is False when the successor has the database after all.
    """
    talk.tell(answer, descriptors)
    if not (await talk.hear(READY_SECONDS)).get("ready"):
        return False
    serves = False
    try:
        # here, where a successor of a release before the export passes over a descriptor that it does not know
        talk.tell({"done": True, "changed": await let_go()}, [sys.stdout.fileno()])
        serves = bool((await talk.hear(SERVING_SECONDS)).get("serving"))
    except OSError:
        pass  # it is gone
    finally:
        if not serves:  # whatever happened: somebody has to serve
            serves = not await go_on()
    return serves

"""The supervisor's end of the control socket: one JSON object each way over STATE/run/control.sock.

Only the relay's own user and root can reach the socket (the directory is 0700), and the user at the other end as the
kernel gives it (SO_PEERCRED, unix(7)) is checked as well. The other end is serve/control_client.py.
"""

import asyncio
import json
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from relay.serve.control_client import SOCKET
from relay.serve.supervisor import listeners

MOST = 4 << 20  # bytes of a question or an answer
SLOW_SECONDS = 10.0  # for a caller to take what is said to it

Answer = Mapping[str, Any]


class ControlConversation:
    """One caller who has more to say than a question, and may be given descriptors (SCM_RIGHTS, unix(7))."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def tell(self, answer: Answer, descriptors: Sequence[int] = ()) -> None:
        """Say something; descriptors travel with it. Raises OSError when the caller is gone."""
        line = json.dumps(answer).encode() + b"\n"
        if not descriptors:
            self._writer.write(line)
            return
        number = self._writer.get_extra_info("socket").fileno()
        with socket.socket(fileno=os.dup(number)) as sock:  # the stream itself cannot send descriptors
            socket.send_fds(sock, [line], list(descriptors))

    async def room(self) -> None:
        """Wait until the caller has taken most of what was said. Raises OSError or TimeoutError when it does not."""
        async with asyncio.timeout(SLOW_SECONDS):
            await self._writer.drain()

    async def hear(self, seconds: float) -> dict[str, Any]:
        """What the caller says next; empty when it is gone, silent for that long, or speaks nonsense."""
        try:
            async with asyncio.timeout(seconds):
                said = json.loads(await self._reader.readline())
        except (OSError, ValueError, TimeoutError):
            return {}
        return said if isinstance(said, dict) else {}


Talk = Callable[[dict[str, Any], ControlConversation], Awaitable[None]]  # the question, and who asks it


class ControlServer:
    """The supervisor's end."""

    def __init__(self, ask: Callable[[dict[str, Any]], Awaitable[Answer]]) -> None:
        """`ask` answers a question; who talks longer with the caller is put into `talks`, by what is to be done."""
        self._ask = ask
        self.talks: dict[str, Talk] = {}
        self._server: asyncio.AbstractServer | None = None

    async def listen(self, run: Path) -> None:
        """Listen at run/control.sock; the socket of another supervisor is replaced."""
        self.close()
        sock = listeners.local(run / SOCKET)
        self._server = await asyncio.start_unix_server(self._serve, sock=sock, limit=MOST)

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            uid = _peer_uid(writer.get_extra_info("socket"))
            if uid not in (0, os.geteuid()):
                answer: Answer = {"error": "not permitted"}
            else:
                async with asyncio.timeout(10):
                    line = await reader.readline()
                question = json.loads(line)
                if not isinstance(question, dict):
                    answer = {"error": "not a question"}
                elif question.get("do") in self.talks:
                    await self.talks[question["do"]](question, ControlConversation(reader, writer))
                    return
                else:
                    answer = await self._ask(question)
            writer.write(json.dumps(answer).encode() + b"\n")
            async with asyncio.timeout(10):
                await writer.drain()
        except (OSError, ValueError, TimeoutError):
            pass  # the caller went away or spoke nonsense; it sees that nobody answered
        except asyncio.CancelledError:
            pass  # this process ends, and asyncio's streams report a cancelled one as an error; the next one is asked
        finally:
            writer.close()


def _peer_uid(sock: Any) -> int:
    if not hasattr(socket, "SO_PEERCRED"):
        return os.geteuid()  # not Linux: the directory's mode is what protects the socket
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])

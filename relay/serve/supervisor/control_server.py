"""The supervisor's end of the control socket: one JSON object each way over STATE/run/control.sock.

Only the relay's own user and root can reach the socket (the directory is 0700), and the user at the other end as the
kernel gives it (SO_PEERCRED, unix(7)) is checked as well. The other end is serve/control_client.py.
"""

import asyncio
import contextlib
import json
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from relay.serve.control_client import SOCKET
from relay.serve.supervisor import listeners

MOST = 4 << 20  # bytes of a question or an answer
QUESTION_SECONDS = 10.0  # for a caller to send its question
SLOW_SECONDS = 10.0  # for a caller to take a piece of its answer

Answer = Mapping[str, Any]


class ControlConversation:
    """One caller that is answered in several pieces."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    async def send(self, piece: Answer) -> None:
        """Send one piece and wait until the caller has taken most of it. Raises OSError or TimeoutError."""
        self._writer.write(json.dumps(piece).encode() + b"\n")
        async with asyncio.timeout(SLOW_SECONDS):
            await self._writer.drain()


Conversation = Callable[[dict[str, Any], ControlConversation], Awaitable[None]]  # the question, and the caller


class ControlServer:
    """The supervisor's end of the control socket."""

    def __init__(self, answer: Callable[[dict[str, Any]], Awaitable[Answer]]) -> None:
        """`answer` answers in one piece; `conversations` has those answered in several, by the question's `do`."""
        self._answer = answer
        self.conversations: dict[str, Conversation] = {}
        self._server: asyncio.AbstractServer | None = None
        self._finished = False
        self._answering = 0  # questions
        self._idle = asyncio.Event()
        self._idle.set()

    async def listen(self, run: Path) -> None:
        """Listen at run/control.sock; the socket file of another supervisor is replaced."""
        sock = listeners.local(run / SOCKET)
        self._server = await asyncio.start_unix_server(self._serve, sock=sock, limit=MOST)

    async def finish(self, seconds: float) -> None:
        """Answer no more questions, and wait for those being answered.

        A caller that comes later sees its connection end without an answer, and asks again (`call`): the next
        supervisor, or none.
        """
        self._finished = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._idle.wait()

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            uid = _peer_uid(writer.get_extra_info("socket"))
            if uid not in (0, os.geteuid()):
                writer.write(b'{"error": "not permitted"}\n')
                return
            async with asyncio.timeout(QUESTION_SECONDS):
                question = json.loads(await reader.readline())
            if isinstance(question, dict) and not self._finished:
                await self._reply(question, writer)
        except (OSError, ValueError, TimeoutError):
            pass  # the caller is gone, or sent no question
        except asyncio.CancelledError:
            pass  # this process ends; asyncio's streams would report a cancelled handler as an error
        finally:
            writer.close()

    async def _reply(self, question: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        self._answering += 1
        self._idle.clear()
        try:
            caller = ControlConversation(writer)
            conversation = self.conversations.get(str(question.get("do")))
            if conversation is not None:
                await conversation(question, caller)
            else:
                await caller.send(await self._answer(question))
        finally:
            self._answering -= 1
            if not self._answering:
                self._idle.set()


def _peer_uid(sock: Any) -> int:
    if not hasattr(socket, "SO_PEERCRED"):
        return os.geteuid()  # not Linux: the directory's mode is what protects the socket
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])

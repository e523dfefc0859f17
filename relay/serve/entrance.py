"""Who comes in, who waits, and to which worker does a client go? From accept(2) to the handed-over descriptor.

The bounds themselves are in `admission`; here are the listening sockets, and what is done with each newcomer. No
byte of a client is read.
"""

import asyncio
import errno
import socket
from collections.abc import Callable

from relay.core.settings import Limits
from relay.serve.admission import Door, Line, source_of
from relay.serve.crew import Crew, Member
from relay.serve.record import Record

ACCEPTS = 64  # per turn of the loop and listener
LINE_SECONDS = 0.5  # how often the line before a full source is looked at
IDLE_SECONDS = 5.0  # a client that has not proven a key by then gives its place to one that waits
NO_ROOM_SECONDS = 0.5  # after running out of descriptors
NO_WORKER_SECONDS = 0.1  # while no worker of ours is ready


class Entrance:
    """The listening sockets, the door behind them, and the line before it."""

    def __init__(self, crew: Crew, record: Record, limits: Callable[[], Limits]) -> None:
        self._loop = asyncio.get_running_loop()
        self._crew = crew
        self._record = record
        self._limits = limits
        self._door = Door()
        self._line = Line()
        self._closed = False
        self.sockets: list[socket.socket] = []

    def open(self) -> None:
        """Begin to accept."""
        for sock in self.sockets:
            self._loop.add_reader(sock.fileno(), self._accept, sock)

    def stop(self) -> None:
        """Accept no more; who comes now waits in the listeners' backlog, and who waits in line comes in.

        Behind them is no supervisor to count them for a moment: they are no more than the line holds.
        """
        if not self._closed:
            self._closed = True
            for sock in self.sockets:
                self._loop.remove_reader(sock.fileno())
            while waiting := self._line.next(lambda source: True):
                self._admit(*waiting)

    def resume(self) -> None:
        """Accept again after `stop`."""
        self._closed = False
        self.open()

    def close(self) -> None:
        """Accept no more, and let the listening sockets go."""
        self.stop()
        for sock in self.sockets:
            sock.close()

    def readmit(self, connection: str, source: str) -> None:
        """One that a former supervisor let in has not proven its key yet: it is counted here now."""
        self._door.enter(connection, source_of(source), self._limits(), self._loop.time())

    @property
    def waiting(self) -> int:
        """Connections that have not proven a key."""
        return len(self._door)

    def leave(self, connection: str) -> None:
        """It has proven its key, or is gone: its place is free."""
        self._door.leave(connection)
        if len(self._line):
            self._move_line()

    def lost(self, member: Member) -> None:
        """A worker is gone with those it was to let in."""
        for connection in member.connections:
            self._door.leave(connection)

    async def watch_line(self) -> None:
        """Who waits for a place that nobody leaves gets that of the idlest of its source, or is sent away at last."""
        while True:
            await asyncio.sleep(LINE_SECONDS)
            now, limits = self._loop.time(), self._limits()
            for address, port in self._line.late(now - limits.login_grace):
                self._record.stranger("source-full", address, port)
            for source in self._line.sources():
                idler = self._door.idler(source, now - IDLE_SECONDS)
                if idler is not None:
                    self._drop(idler)
                    self.leave(idler)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTS):
            if self._crew.least_loaded() is None:  # all are being replaced: who comes waits in the listener's backlog
                self._pause(listener, NO_WORKER_SECONDS)
                return
            try:
                sock, peer = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._pause(listener, NO_ROOM_SECONDS)
                return
            self._welcome(sock, str(peer[0]).split("%", maxsplit=1)[0], int(peer[1]))

    def _pause(self, listener: socket.socket, seconds: float) -> None:
        self._loop.remove_reader(listener.fileno())
        self._loop.call_later(seconds, self._resume, listener)

    def _resume(self, listener: socket.socket) -> None:
        if not self._closed:
            self._loop.add_reader(listener.fileno(), self._accept, listener)

    def _welcome(self, sock: socket.socket, address: str, port: int) -> None:
        limits = self._limits()
        if self._door.room(source_of(address), limits):
            self._admit(sock, address, port)
        elif len(self._line) < limits.unauthenticated and self._line.has_room(source_of(address)):
            self._line.join(sock, address, port, self._loop.time())
        else:
            sock.close()
            self._record.stranger("source-full", address, port)

    def _move_line(self) -> None:
        """Somebody has proven a key or is gone: let in who waits and has room now."""
        limits = self._limits()
        while waiting := self._line.next(lambda source: self._door.room(source, limits)):
            self._admit(*waiting)

    def _admit(self, sock: socket.socket, address: str, port: int) -> None:
        with sock:
            self._hand_over(sock, address, port)

    def _hand_over(self, sock: socket.socket, address: str, port: int) -> None:
        member = self._crew.least_loaded()
        if member is None:
            return  # all workers are being replaced: closed, the client tries again
        number = self._record.make_id()
        _, evicted = self._door.enter(number, source_of(address), self._limits(), self._loop.time())
        if evicted is not None:
            self._drop(evicted)
        member.connections.add(number)
        try:
            member.link.send({"t": "conn", "c": number, "source": address, "port": port, "fd": True}, sock.fileno())
        except OSError:  # no descriptor left for the copy that travels: the place at the door is free again
            self._door.leave(number)
            member.connections.discard(number)

    def _drop(self, connection: str) -> None:
        for member in self._crew.members.values():
            if connection in member.connections:
                member.link.send({"t": "drop", "c": connection, "why": "place-needed"})

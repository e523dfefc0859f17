"""How supervisor and workers talk: framed JSON over a Unix stream socket, with descriptors beside it.

A frame is a four-byte big-endian length and that many bytes of JSON: one object whose `t` names its kind. A
frame whose object says `"fd": true` has one descriptor travelling with it (SCM_RIGHTS, unix(7)); descriptors
arrive in the order of their frames.

    worker -> supervisor
      hello      {v, release, pid, name, slot, can, slow} first of all; slot null asks for one; can: ["list", "kill"];
                                                          slow: why it does not use the fast path, "" if it does
      have       {c, source, person, key, proven}         after a reconnect: a connection that lives on
      holding    {f, c, person, key, target}              after a reconnect: a forward that is open
      joined     {}                                       end of have/holding
      auth       {c, person, key}                         the connection has proven its key
      gone       {c, why, exchanged}                      the connection has ended; why: how, if it proved no key;
                                                          exchanged: whether it began to exchange keys
      open       {e}                                      a forward wants its opening row: answered opened or busy
      note       {e}                                      an event to record: answered ack
      stranger   {kind, source, id, fingerprint, login}   something before log-in, to be counted
      listing    {n, connections, forwards, last}         a slice of the answer to list
      killed     {n, connections, forwards, last}         likewise to kill: what was ended, as it was
      figures    {sent, received, denied, refused, dials, lag}   what counters have grown by, once a second; see figures
      use        {dials, buffers, rates}                  what only it can count, for `relayctl doctor --limits`
      pong       {n}
    supervisor -> worker
      welcome    {v, slot, node, ours, site}              site: whose key files count while no supervisor answers
      settings   {settings, listening}          listening: the addresses and ports of this relay
      policy     {version, lines, first, last}            a slice of the compiled policy
      keys       {version, lines, first, last}            a slice of the compiled keys
      conn       {c, source, port, fd, slow}              a new client, with its descriptor; slow: seconds to offer one
      opened     {f} | busy {f, reason, limit}            the answer to open; limit: of whom, where one is reached
      ack        {ids}                                    these notes are durable
      share      {parts}                                  of persons' rates, where other workers carry them too
      frozen     {keys}                                   keys that are shut out for a while: {fingerprint: until}
      drop       {c, why, text}                                 end this connection (a place is needed)
      drain      {seconds}                                take nothing new, end when empty or after that time
      stop       {seconds}                                end, giving open forwards that long
      handover   {seconds}                                another supervisor comes by then: openings wait for it
      list       {n}                                      what is open? Answered by listing
      kill       {n, kind, what, by, dry}                 end what is meant: kind id, person or key; answered by killed
      ping       {n}

Adding kinds and fields is allowed within VERSION; an unknown kind is ignored by both sides, so an older worker
can serve under a newer supervisor, and the other way round after a step back. A field that an older worker does not
send has a default where it is read (`proven`: true). VERSION grows when that is not enough; a supervisor then goes on
with workers from OLDEST on, and tells all others to `stop`: whom it cannot tell about a revocation may not go on.
"""

import asyncio
import contextlib
import itertools
import json
import os
import socket
import threading
from array import array
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

VERSION = 1
OLDEST = 1  # of the workers that this supervisor can speak to; 0.1.0 speaks 1
MOST = 1 << 20  # bytes in one frame
HELD = 32 << 20  # bytes of messages waiting to be sent: a peer that reads nothing for that long is given up
_TURN = 32  # frames handled per turn of the loop, so a long snapshot never stalls the streams
_ACKS = 1000  # rows that one message speaks for, 14 kB
_READ = 1 << 16
_ROOM = socket.CMSG_LEN(16 * array("i").itemsize)  # descriptors that come with one read
# one of each for all: json.dumps and json.loads would do half of their work for each message anew
_ENCODE = json.JSONEncoder(separators=(",", ":")).encode
_DECODE = json.JSONDecoder().raw_decode

Message = dict[str, Any]


class IpcLink:
    """One end of the socket between supervisor and worker. Never blocks; `lost` is called once, at the end."""

    def __init__(
        self,
        sock: socket.socket,
        received: Callable[["IpcLink", Message, int | None], None],
        lost: Callable[["IpcLink"], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._received = received
        self._lost = lost
        self._in = b""
        self._fds: deque[int] = deque()
        self._out: deque[tuple[memoryview, int | None]] = deque()
        self._held = 0
        self._later: list[Mapping[str, Any]] = []  # what can wait for something to go with
        self._acks: list[str] = []  # in one of these
        self._late: asyncio.TimerHandle | None = None  # when it goes alone
        self._law = 0
        self._more: asyncio.Handle | None = None
        self._soon: asyncio.Handle | None = None
        self._hurried = False  # something has gone at once in this turn
        self._blocked = False  # it goes on when the socket has room
        self._deaf = False  # the peer takes nothing more; what it has sent is still read
        self._sending = threading.Lock()  # whoever has it may use the socket: the loop, or the thread of `answer`
        self.open = True
        sock.setblocking(False)
        self._loop.add_reader(sock.fileno(), self._readable)

    def send(self, message: Mapping[str, Any], descriptor: int | None = None) -> None:
        """Send one frame, with the others of this turn of the loop; `descriptor` is duplicated.

        A log-in is half a dozen messages: each by itself would be a system call and a turn of the other end's loop.
        The caller keeps its own descriptor.
        """
        if self._put(encode(message), descriptor):
            self._flush_soon()

    def send_frame(self, frame: bytes) -> None:
        """Send a ready frame, with the others of this turn of the loop."""
        if self._put(frame):
            self._flush_soon()

    def send_now(self, frame: bytes, descriptor: int | None = None) -> None:
        """Send one frame that somebody waits for, at once. Others of this turn of the loop go together after it."""
        if self._put(frame, descriptor):
            if not self._hurried and not self._blocked:
                self._hurried = True
                with self._sending:
                    self._send()
            self._flush_soon()

    def send_later(self, message: Mapping[str, Any], seconds: float) -> None:
        """Send one frame that nobody waits for: with the next that goes, or after so many seconds."""
        if self.open and not self._deaf:
            self._later.append(message)
            if self._late is None:
                self._late = self._loop.call_later(seconds, self._flush)

    def acknowledge(self, number: str, seconds: float) -> None:
        """Say that this row is durable, together with others, as `send_later` does."""
        if not self._acks or len(self._acks) >= _ACKS:
            self._acks = []
            self.send_later({"t": "ack", "ids": self._acks}, seconds)
        self._acks.append(number)

    def answer(self, frame: bytes) -> None:
        """Send one frame from any thread, at once where nothing waits before it. Raises nothing."""
        with self._sending:
            if not self.open or self._deaf:
                return
            if not self._out:
                try:
                    sent = self._sock.send(frame)
                except OSError:  # it is full; or the peer is gone, as the loop is about to learn
                    sent = 0
                if sent == len(frame):
                    return
                if sent:  # before anything that the loop may have put there meanwhile
                    self._out.appendleft((memoryview(frame)[sent:], None))
                    self._loop.call_soon_threadsafe(self._go_on, len(frame) - sent)
                    return
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self.send_frame, frame)

    def _go_on(self, left: int) -> None:
        self._held += left
        self._flush_soon()

    def _put(self, frame: bytes, descriptor: int | None = None) -> bool:
        """Keep a frame to be sent; False when there is nobody to send it to."""
        if not self.open or self._deaf:
            return False
        self._carry()
        self._out.append((memoryview(frame), os.dup(descriptor) if descriptor is not None else None))
        self._held += len(frame)
        if self._held > HELD + self._law:
            self.close()
        return self.open

    def send_law(self, frames: Sequence[bytes]) -> None:
        """Send ready frames of a compiled document. They are shared by all links, so they do not count as held."""
        if not self.open or self._deaf:
            return
        size = sum(map(len, frames))
        self._law += size  # an upper bound of what of them still waits: it is taken back when nothing does
        self._held += size
        self._out.extend((memoryview(frame), None) for frame in frames)
        self._flush_soon()

    def close(self) -> None:
        """Give the link up; `lost` is called from the loop."""
        if not self.open:
            return
        self._flush()  # the last words
        with self._sending:
            self.open = False
            self._loop.remove_reader(self._sock.fileno())
            self._loop.remove_writer(self._sock.fileno())
            self._sock.close()
        for handle in (self._more, self._soon):
            if handle is not None:
                handle.cancel()
        self._forget()
        for descriptor in self._fds:
            if descriptor >= 0:
                os.close(descriptor)
        self._fds.clear()
        self._loop.call_soon(self._lost, self)

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be sent."""
        return not self._out and not self._later

    def _deafen(self) -> None:
        self._deaf = True
        self._forget()

    def _forget(self) -> None:
        for _, descriptor in self._out:
            if descriptor is not None:
                os.close(descriptor)
        self._out.clear()
        self._later.clear()
        self._acks = []
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _flush_soon(self) -> None:
        if self._soon is None and not self._blocked:
            self._soon = self._loop.call_soon(self._flush)

    def _carry(self) -> None:
        """What can wait goes with what is sent now."""
        if self._late is not None:
            self._late.cancel()
            self._late = None
            for frame in map(encode, self._later):
                self._out.append((memoryview(frame), None))
                self._held += len(frame)
            self._later.clear()
            self._acks = []

    def _flush(self) -> None:
        self._carry()
        self._soon = None
        self._hurried = False
        with self._sending:
            self._send()

    def _send(self) -> None:
        while self._out:
            frames, descriptor = self._next()
            try:
                if descriptor is None:
                    sent = self._sock.sendmsg(frames)
                else:
                    sent = socket.send_fds(self._sock, frames, [descriptor])
            except (BlockingIOError, InterruptedError):
                self._blocked = True
                self._loop.add_writer(self._sock.fileno(), self._writable)
                return
            except OSError:
                self._deafen()  # not the end yet: it may have handed over clients before it went
                return
            self._held -= sent
            if descriptor is not None:
                os.close(descriptor)  # it went with the first byte
                self._out[0] = (frames[0], None)
            while self._out and sent >= len(self._out[0][0]):
                sent -= len(self._out.popleft()[0])
            if sent:
                self._out[0] = (self._out[0][0][sent:], None)
        self._law = 0

    def _next(self) -> tuple[list[memoryview], int | None]:
        """What goes out with one system call: a frame with its descriptor, or the frames up to the next such one."""
        frame, descriptor = self._out[0]
        if descriptor is not None or len(self._out) == 1:
            return [frame], descriptor
        plain = itertools.takewhile(lambda one: one[1] is None, self._out)
        return [frame for frame, _ in itertools.islice(plain, _TURN)], None

    def _writable(self) -> None:
        self._blocked = False
        self._loop.remove_writer(self._sock.fileno())
        self._flush()

    def _readable(self) -> None:
        descriptors = array("i")
        try:
            data, beside, flags, _ = self._sock.recvmsg(_READ, _ROOM)
            for level, kind, found in beside:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    descriptors.frombytes(found[: len(found) - len(found) % descriptors.itemsize])
            if flags & socket.MSG_CTRUNC:  # this process had none free: the kernel has closed what travelled
                descriptors.append(-1)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        self._fds.extend(descriptors)
        if not data:
            self.close()
            return
        self._in += data
        if self._more is None:
            self._frames()

    def _frames(self) -> None:
        """Handle what has arrived, a bounded number of frames per turn; reading pauses while some are left."""
        if self._more is not None:
            self._more = None
            if self.open:
                self._loop.add_reader(self._sock.fileno(), self._readable)
        done = 0
        position = 0
        data = self._in
        while self.open and done < _TURN and len(data) - position >= 4:
            begin = position + 4
            size = int.from_bytes(data[position:begin], "big")
            if size > MOST:
                self.close()
                return
            if len(data) - begin < size:
                break
            position = begin + size
            done += 1
            try:
                text = data[begin:position].decode()
                message, end = _DECODE(text)
                if end != len(text):
                    raise ValueError(text[end:])
                descriptor = self._fds.popleft() if message.get("fd") else -1
            except (ValueError, AttributeError, IndexError, RecursionError):
                self.close()
                return
            if "lines" in message:
                done = _TURN  # a slice of the law is the work of a whole turn: many come with one read
            self._received(self, message, descriptor if descriptor >= 0 else None)
        self._in = data[position:]
        if self.open and done == _TURN:
            self._loop.remove_reader(self._sock.fileno())
            self._more = self._loop.call_soon(self._frames)


def encode(message: Mapping[str, Any]) -> bytes:
    """One message as a frame."""
    return framed(_ENCODE(message))


def framed(text: str) -> bytes:
    """The JSON text of a message as a frame."""
    body = text.encode()
    return len(body).to_bytes(4, "big") + body


def inside(fields: Mapping[str, Any]) -> str:
    """A JSON object without its braces, to be put together with others."""
    return _ENCODE(fields)[1:-1]


def chunks(kind: str, version: str, lines: list[str], most: int = 1 << 14) -> list[Message]:
    """A compiled document as frames of at most about `most` bytes, so that each is loaded in well under 2 ms.

    A line costs some microseconds however short it is, as much as 256 bytes more of a long one.
    """
    frames: list[Message] = []
    batch: list[str] = []
    size = 0
    for line in lines:
        if batch and size + len(line) + 256 > most:
            frames.append({"t": kind, "version": version, "lines": batch})
            batch, size = [], 0
        batch.append(line)
        size += len(line) + 256
    frames.append({"t": kind, "version": version, "lines": batch})
    frames[0]["first"] = True
    frames[-1]["last"] = True
    return frames

"""The protocol between supervisor and worker: framed JSON over a Unix stream socket, with descriptors beside it.

A frame is a four-byte big-endian length and that many bytes of JSON: one object whose `t` names its kind. A
frame whose object says `"fd": true` has one descriptor travelling with it (SCM_RIGHTS, unix(7)); descriptors
arrive in the order of their frames.

    worker -> supervisor
      hello      {v, release, pid, name, slot, can, slow} the first message; slot null asks for one; can: [list, kill];
                                                          slow: why the fast path is off, "" if it is on
      have       {c, source, person, key, proven}         after a reconnect: a connection that is still open
      holding    {f, c, person, key, target}              after a reconnect: a forward that is still open
      joined     {}                                       end of have/holding
      auth       {c, person, key}                         the connection is authenticated
      gone       {c, why, exchanged}                      the connection has ended; why: the failure class if it was not
                                                          authenticated; exchanged: whether a key exchange had begun
      open       {e}                                      a forward's opening row: answered by opened or busy
      note       {e}                                      an event to record: answered by ack
      stranger   {kind, source, id, fingerprint, login}   an event before log-in, to be counted
      listing    {n, connections, forwards, last}         a part of the answer to list
      killed     {n, connections, forwards, last}         likewise to kill: what was ended, as it was before
      figures    {sent, received, denied, refused, dials, lag}   growth of the counters, once a second (statistics)
      use        {dials, buffers, rates}                  use of this worker's limits, for `relayctl doctor --limits`
      pong       {n}
    supervisor -> worker
      welcome    {v, slot, node, ours, site}              site: the directory whose key files count without a supervisor
      settings   {settings, listening}                    listening: the addresses and ports of this relay
      policy     {version, lines, first, last}            a part of the compiled policy
      keys       {version, lines, first, last}            a part of the compiled keys
      conn       {c, source, port, fd, slow}              a new client and its descriptor; slow: seconds to offer a key
      opened     {f} | busy {f, reason, limit}            the answers to open; limit: which one was reached, if any
      ack        {ids}                                    these notes are durable
      share      {parts}                                  this worker's share of a rate that others share
      frozen     {keys}                                   the frozen keys: {fingerprint: until}
      drop       {c, why, text}                           end this connection (its slot is needed)
      drain      {seconds}                                accept nothing new, end when empty or after that time
      stop       {seconds}                                end, giving open forwards that long
      handover   {seconds}                                another supervisor follows within that time: openings wait
      list       {n}                                      list what is open; answered by listing
      kill       {n, kind, what, by, dry}                 end connections or forwards; kind: id, person or key
      ping       {n}

Kinds and fields may be added within VERSION. Both sides ignore an unknown kind, so an older worker can serve under a
newer supervisor, and the other way round after a downgrade. A field that an older worker does not send has a default
where it is read (`proven`: true). An incompatible change increments VERSION; a supervisor keeps workers from OLDEST on
and tells all others to `stop`, because a worker that cannot be told about a revocation must not continue.
"""

import asyncio
import json
import os
import socket
from array import array
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

VERSION = 1
OLDEST = 1  # of the workers that this supervisor can speak to
MAX_FRAME = 1 << 20  # bytes
MAX_QUEUED = 32 << 20  # bytes waiting to be sent: a peer that lets so much pile up is given up
_FRAMES_PER_TURN = 32  # sent or handled per turn of the loop, so that a long policy never stalls the streams
_IDS_PER_ACK = 1000  # 14 kB
_READ = 1 << 16
_CONTROL = socket.CMSG_LEN(16 * array("i").itemsize)  # descriptors that one read can take
# json.dumps and json.loads would build these anew for each message
_ENCODE = json.JSONEncoder(separators=(",", ":")).encode
_DECODE = json.JSONDecoder().raw_decode

Message = dict[str, Any]


class IpcLink:
    """One end of the socket between supervisor and worker.

    Belongs to the event loop: no other thread may call it. No call blocks; `lost` is called once, at the end.
    """

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
        self._input = b""
        self._descriptors: deque[int] = deque()  # received with frames that are not handled yet; -1: it was lost
        self._queue: deque[tuple[memoryview, int | None]] = deque()  # frames to be sent, and their descriptors
        self._queued = 0  # bytes in it
        self._bulk = 0  # upper bound of the bytes in it that do not count; 0 again whenever it is empty
        self._acks: list[str] = []  # rows to be acknowledged with the next flush
        self._flush_soon: asyncio.Handle | None = None
        self._flush_later: asyncio.TimerHandle | None = None
        self._parse_soon: asyncio.Handle | None = None  # reading pauses until it has run
        self._blocked = False  # the socket is full; sending continues when it has room
        self._peer_closed = False  # nothing can be sent any more; what the peer has sent is still read
        self.open = True
        sock.setblocking(False)
        self._loop.add_reader(sock.fileno(), self._readable)

    def send(self, message: Mapping[str, Any], descriptor: int | None = None, *, delay: float = 0.0) -> None:
        """Send one message with all others of this turn of the loop, in one system call where possible.

        With `delay` it waits for up to that many seconds for others to go with. `descriptor` is duplicated: the caller
        keeps its own. Order is kept in every case.
        """
        if not self.open or self._peer_closed:
            return
        frame = encode(message)
        self._queue.append((memoryview(frame), os.dup(descriptor) if descriptor is not None else None))
        self._queued += len(frame)
        if self._queued > MAX_QUEUED + self._bulk:
            self.close()
        else:
            self._schedule_flush(delay)

    def acknowledge(self, number: str, delay: float) -> None:
        """Report that this row is durable, in one message with all others that are due by then."""
        if self.open and not self._peer_closed:
            self._acks.append(number)
            self._schedule_flush(delay)

    def send_bulk(self, frames: Sequence[bytes]) -> None:
        """Send encoded frames that are kept elsewhere anyway, so they do not count towards MAX_QUEUED."""
        if self.open and not self._peer_closed:
            size = sum(map(len, frames))
            self._bulk += size
            self._queued += size
            self._queue.extend((memoryview(frame), None) for frame in frames)
            self._schedule_flush(0.0)

    def close(self) -> None:
        """Send what the socket takes and close it; `lost` is called from the loop."""
        if not self.open:
            return
        self._blocked = False
        self._flush()
        self.open = False
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        for handle in (self._parse_soon, self._flush_soon, self._flush_later):
            if handle is not None:
                handle.cancel()
        self._drop_queue()
        for descriptor in self._descriptors:
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptors.clear()
        self._loop.call_soon(self._lost, self)

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be sent."""
        return not self._queue and not self._acks

    def _drop_queue(self) -> None:
        for _, descriptor in self._queue:
            if descriptor is not None:
                os.close(descriptor)
        self._queue.clear()
        self._acks.clear()

    def _schedule_flush(self, delay: float) -> None:
        if self._blocked or self._flush_soon is not None:
            return
        if not delay:
            self._flush_soon = self._loop.call_soon(self._flush)
        elif self._flush_later is None:
            self._flush_later = self._loop.call_later(delay, self._flush)

    def _flush(self) -> None:
        """Send everything that is queued, until the socket is full."""
        if self._flush_later is not None:
            self._flush_later.cancel()
        self._flush_soon = self._flush_later = None
        for start in range(0, len(self._acks), _IDS_PER_ACK):
            frame = encode({"t": "ack", "ids": self._acks[start : start + _IDS_PER_ACK]})
            self._queue.append((memoryview(frame), None))
            self._queued += len(frame)
        self._acks.clear()
        while self._queue and not self._blocked:
            frames, descriptor = self._next_frames()
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
                self._peer_closed = True  # the link ends when all is read: the peer may have sent clients before
                self._drop_queue()
                return
            if descriptor is not None:
                os.close(descriptor)  # it travelled with the first byte
                self._queue[0] = (frames[0], None)
            self._sent(sent)
        if not self._queue:
            self._bulk = 0

    def _next_frames(self) -> tuple[list[memoryview], int | None]:
        """The frames for one system call: one with its descriptor, or all before the next with a descriptor."""
        frame, descriptor = self._queue[0]
        if descriptor is not None:
            return [frame], descriptor
        frames: list[memoryview] = []
        for frame, descriptor in self._queue:
            if descriptor is not None or len(frames) == _FRAMES_PER_TURN:
                break
            frames.append(frame)
        return frames, None

    def _sent(self, count: int) -> None:
        """Remove so many bytes from the front of the queue."""
        self._queued -= count
        while self._queue and count >= len(self._queue[0][0]):
            count -= len(self._queue.popleft()[0])
        if count:
            frame, descriptor = self._queue[0]
            self._queue[0] = (frame[count:], descriptor)

    def _writable(self) -> None:
        self._blocked = False
        self._loop.remove_writer(self._sock.fileno())
        self._flush()

    def _readable(self) -> None:
        descriptors = array("i")
        try:
            data, control, flags, _ = self._sock.recvmsg(_READ, _CONTROL)
            for level, kind, received in control:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    descriptors.frombytes(received[: len(received) - len(received) % descriptors.itemsize])
            if flags & socket.MSG_CTRUNC:  # this process has no free descriptor: the kernel has closed what travelled
                descriptors.append(-1)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        self._descriptors.extend(descriptors)
        if not data:
            self.close()
            return
        self._input += data
        if self._parse_soon is None:
            self._parse()

    def _parse(self) -> None:
        """Handle a bounded number of the frames that have arrived; reading pauses while some are left."""
        if self._parse_soon is not None:
            self._parse_soon = None
            self._loop.add_reader(self._sock.fileno(), self._readable)
        handled = 0
        position = 0
        data = self._input
        while self.open and handled < _FRAMES_PER_TURN and len(data) - position >= 4:
            begin = position + 4
            size = int.from_bytes(data[position:begin], "big")
            if size > MAX_FRAME:
                self.close()
                return
            if len(data) - begin < size:
                break
            position = begin + size
            handled += 1
            try:
                text = data[begin:position].decode()
                message, end = _DECODE(text)
                if end != len(text):
                    raise ValueError(text[end:])
                descriptor = self._descriptors.popleft() if message.get("fd") else -1
            except (ValueError, AttributeError, IndexError, RecursionError):
                self.close()
                return
            if "lines" in message:
                handled = _FRAMES_PER_TURN  # loading a part of a policy is work for a whole turn
            self._received(self, message, descriptor if descriptor >= 0 else None)
        self._input = data[position:]
        if self.open and handled == _FRAMES_PER_TURN:
            self._loop.remove_reader(self._sock.fileno())
            self._parse_soon = self._loop.call_soon(self._parse)


def encode(message: Mapping[str, Any]) -> bytes:
    """One message as a frame."""
    body = _ENCODE(message).encode()
    return len(body).to_bytes(4, "big") + body


def chunks(kind: str, version: str, lines: list[str], most: int = 1 << 14) -> list[Message]:
    """A compiled document as messages of at most about `most` bytes, so that each is loaded in well under 2 ms.

    Each line costs some microseconds, however short it is: as much as 256 bytes of a long one.
    """
    messages: list[Message] = []
    batch: list[str] = []
    size = 0
    for line in lines:
        if batch and size + len(line) + 256 > most:
            messages.append({"t": kind, "version": version, "lines": batch})
            batch, size = [], 0
        batch.append(line)
        size += len(line) + 256
    messages.append({"t": kind, "version": version, "lines": batch})
    messages[0]["first"] = True
    messages[-1]["last"] = True
    return messages

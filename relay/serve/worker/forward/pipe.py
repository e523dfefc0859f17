"""How bytes flow between one direct-tcpip channel and its target (the hot path).

The channel side speaks asyncssh's session interface; the target side is a raw non-blocking socket, written at
once when nothing waits, read only when both the channel's window (RFC 4254 5.2) and the client's TCP
connection have room. Nothing here waits and nothing may escape: an exception from a session's callback would
end the whole connection with all its forwards.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import asyncssh

from relay.serve.worker.forward.rate_limiter import RateLimiter
from relay.serve.worker.forward.read_pacing import PacedSocket, ReadPacer
from relay.serve.worker.forward.write_buffer import WriteBuffer
from relay.serve.worker.ssh.fastpath.to_client import ClientWriter, ReadResult

CHUNK = 1 << 16  # bytes read from the target at once; also what one forward may do per turn of the loop
HIGH = 1 << 18  # bytes waiting for the target before the client's window is no longer refilled
LEAVE_SECONDS = 300.0  # for what a client that has closed sent before: the largest window at 9 kB/s
PART = 4  # of the window, if that is less: a small window is small so that little waits; refilled at that part of HIGH


class PipeChannel(Protocol):
    """What a forward asks of its channel (serve.worker.ssh.channel)."""

    def carry(self, frame: ClientWriter, source: socket.socket, most: int) -> ReadResult | None:
        """Send the client what `source` has to say, at most `most` bytes; None: that path is not for it now."""

    def pass_on(self, data: bytes) -> None:
        """Send the client what its target said. Raises OSError when the channel is closing."""

    def write_eof(self) -> None:
        """The target will send no more. Raises OSError when the channel is closing."""

    def get_recv_window(self) -> int:
        """Bytes that the client may send ahead."""

    def pause_reading(self) -> None:
        """Keep what the client sends, and do not refill its window."""

    def resume_reading(self) -> None:
        """Give it, and refill it."""

    def close(self) -> None:
        """Close when what waits has been sent."""

    def abort(self) -> None:
        """Close now."""

    def silence(self) -> None:
        """Send nothing more, not even that it is closed."""


class Pipe(asyncssh.SSHTCPSession[bytes]):
    """One open forward. `ended` is called exactly once, with the reason of the end."""

    def __init__(
        self,
        sock: socket.socket,
        ended: Callable[["Pipe", str], None],
        *,
        readable: bool,
        limiter: RateLimiter,
        writer: ClientWriter,
        pacer: ReadPacer,
    ) -> None:
        """`sock` is connected; `readable` False while the client's TCP connection is full; `limiter` is the person's.

        `writer` has the worker's memory to read to; `pacer` says how much at once.
        """
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._writer = writer
        self._reader = PacedSocket(pacer, sock)
        self._fd = sock.fileno()
        self._ended = ended
        self._chan: PipeChannel | None = None
        self._out = WriteBuffer()  # client -> target, what the target's socket did not take
        self._client_eof = False
        self._target_eof = False
        self._shut = False  # the client's EOF was passed on
        self._window_open = True
        self._connection_open = readable
        self._reading = False
        self._limiter = limiter
        self._affordable = True
        self._full = False  # much waits for the target
        self._high = HIGH
        self._paused = False  # the client's window is not refilled
        self._over = False
        self._leaving: asyncio.TimerHandle | None = None  # the client has closed, and the target has not taken all
        self._reason = ""
        self.sent = 0  # bytes taken by the target
        self.received = 0  # bytes taken from the target

    # the channel's side

    def connection_made(self, chan: Any) -> None:
        """The channel is confirmed: from now on bytes may flow."""
        self._chan = chan
        self._high = min(HIGH, chan.get_recv_window() // PART)
        if self._over:
            chan.close()
        elif self._limiter.charge(self, 0):
            self._update()
        else:  # what the person's other forwards have carried is not paid for yet: this one is in line behind them
            self._set_affordable(False)

    def data_received(self, data: bytes, datatype: object = None) -> None:
        """The client sent `data`, on the inherited path."""
        self.take([memoryview(data)], len(data))

    def take(self, pieces: Sequence[memoryview], total: int) -> None:
        """The client sent `total` bytes; give them to the target at once, or keep them and stop refilling the window.

        The memory of the pieces is somebody else's afterwards.
        """
        if self._over or self._shut:
            return
        self._reader.interrupt()
        if not self._limiter.charge(self, total):
            self._set_affordable(False)
        taken = 0
        if not self._out:
            try:
                taken = self._sock.sendmsg(pieces) if len(pieces) > 1 else self._sock.send(pieces[0])
            except (BlockingIOError, InterruptedError):
                pass
            except OSError as error:
                self._unsendable(error)
                return
            self.sent += taken
            if taken == total:
                return
            self._loop.add_writer(self._fd, self._writable)
        for piece in pieces:
            if taken < len(piece):
                self._out.add(piece[taken:])
            taken = max(taken - len(piece), 0)
        if len(self._out) > self._high:
            self._full = True
            self._hold()

    def eof_received(self) -> bool:
        """The client will send no more. The other direction stays open (half-close)."""
        self._client_eof = True
        if not self._out:
            self._pass_eof()
        return True

    @property
    def waits(self) -> bool:
        """Whether something that the client sent waits for the target."""
        return bool(self._out)

    def leave(self, kept: list[memoryview]) -> None:
        """The client has closed: the target gets what it sent before, `kept` last, and then the channel is closed.

        As sshd does it, but not for ever. What the target says meanwhile is read and dropped: else one that wants to
        be rid of an answer first would take no more, and a socket closed with something unread loses what it has sent.
        """
        self._client_eof = self._window_open = True
        self._update()
        self._leaving = self._loop.call_later(LEAVE_SECONDS, self._close, "target-silent")
        if kept:
            self.take(kept, sum(map(len, kept)))
        if not self._out:
            self._pass_eof()

    def pause_writing(self) -> None:
        """The channel's window is used up."""
        self._window_open = False
        self._update()

    def resume_writing(self) -> None:
        """The client has opened the window again."""
        self._window_open = True
        self._update()

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel is gone: closed by either side, or with its connection."""
        self._chan = None
        self._finish(self._reason or ("client-gone" if exc is not None else "client-closed"))

    # the rate limiter's side

    def resume(self) -> None:
        """The person's rate allows more now."""
        self._set_affordable(True)

    def _set_affordable(self, affordable: bool) -> None:
        self._affordable = affordable
        self._hold()
        self._update()

    def _hold(self) -> None:
        """Refill the client's window or not."""
        hold = self._full or not self._affordable
        if hold != self._paused and self._chan is not None:
            self._paused = hold
            if hold:
                self._chan.pause_reading()
            else:
                self._chan.resume_reading()

    # the connection's side

    def allow(self, readable: bool) -> None:
        """Whether the client's TCP connection has room; False also while keys are exchanged anew."""
        self._connection_open = readable
        self._update()

    def abort(self, reason: str, *, quiet: bool = False) -> None:
        """End this forward now, for `reason` (it stands in the closing row).

        `quiet`: the client is not told by this channel, because the whole connection ends, and says why.
        """
        self._reason = self._reason or reason
        if self._chan is not None:
            chan, self._chan = self._chan, None
            # what waits unsent is dropped in both cases: the decision is that no more bytes flow
            if quiet:
                chan.silence()
            else:
                chan.abort()
        self._finish(self._reason)

    # the target's side

    def _update(self) -> None:
        want = (
            self._window_open
            and self._connection_open
            and self._affordable
            and not self._target_eof
            and not self._over
            and self._chan is not None
        )
        if want == self._reading:
            return
        self._reading = want
        if want:
            self._loop.add_reader(self._fd, self._readable)
        else:
            self._loop.remove_reader(self._fd)

    def _readable(self) -> None:
        """One turn of the loop."""
        chan = self._chan
        if chan is None:
            return
        carried = chan.carry(self._writer, self._sock, self._reader.share)
        if carried is None:
            carried = self._pass_on(chan)
        else:
            self.received += carried.amount
        amount, over, error = carried
        self._reader.note(amount, answer=True)
        if amount and not self._over and not self._limiter.charge(self, amount):
            self._set_affordable(False)
        if error is not None:
            self._fail(error)
        elif over:
            self._target_ended(chan)

    def _pass_on(self, chan: PipeChannel) -> ReadResult:
        """Read the target once, for the inherited path."""
        try:
            data = self._sock.recv(CHUNK)
        except (BlockingIOError, InterruptedError):
            return ReadResult(0)
        except OSError as error:
            return ReadResult(0, error=error)
        if data:
            self.received += len(data)
            try:
                chan.pass_on(data)
            except OSError:  # asyncssh: the channel is no longer open for sending (BrokenPipeError)
                if self._leaving is None:
                    self._close("client-closed")
        return ReadResult(len(data), over=not data)

    def _target_ended(self, chan: PipeChannel) -> None:
        self._target_eof = True
        self._update()
        if self._shut:
            self._close("target-closed")
            return
        try:
            chan.write_eof()
        except OSError:
            if self._leaving is None:
                self._close("client-closed")

    def _writable(self) -> None:
        try:
            taken = self._sock.sendmsg(self._out.head(self._reader.share))
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._unsendable(error)
            return
        self.sent += taken
        self._out.drop(taken)
        if self._full and len(self._out) < self._high // PART:
            self._full = False
            self._hold()
        if not self._out and self._fd >= 0:  # what was just delivered may have ended it
            self._loop.remove_writer(self._fd)
            if self._client_eof:
                self._pass_eof()

    def _pass_eof(self) -> None:
        if self._shut or self._over:
            return
        self._shut = True
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            self._unsendable(error)
            return
        if self._target_eof or self._leaving is not None:
            self._close("client-closed")

    def _unsendable(self, error: OSError) -> None:
        """The target takes no more; what it said before it went is still given to the client."""
        self._reason = self._reason or _reason(error)
        self._shut = True
        self._out.clear()
        self._loop.remove_writer(self._fd)
        self._full, self._affordable = False, True
        self._hold()  # what the client still sends is dropped, as a TCP stack would
        if self._target_eof or self._leaving is not None:
            self._close(self._reason)

    def _fail(self, error: OSError) -> None:
        self._close(_reason(error))

    def _close(self, reason: str) -> None:
        """Both directions are done, or the target is gone: close the channel, keeping what is still to be sent."""
        self._reason = self._reason or reason
        self._release()
        if self._chan is not None:
            self._chan.close()  # flushes as the window allows; connection_lost follows
        else:
            self._finish(self._reason)

    def _release(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            self._loop.remove_writer(self._fd)
            self._reader.pause()
            self._sock.close()
            self._fd = -1
        if self._leaving is not None:
            self._leaving.cancel()
        self._reading = False
        self._target_eof = True
        self._shut = True
        self._out.clear()

    def _finish(self, reason: str) -> None:
        if self._over:
            return
        self._over = True
        self._release()
        self._limiter.leave(self)
        self._ended(self, reason)


def _reason(error: OSError) -> str:
    """The stable word of the closing row for a target that went in an unusual way."""
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return "target-reset"
    if isinstance(error, TimeoutError):
        return "target-silent"  # TCP_USER_TIMEOUT or keepalive
    return "target-failed"

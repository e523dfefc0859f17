"""The pipe between one direct-tcpip channel and its target (the hot path).

The channel calls it as asyncssh's session. The target's socket is non-blocking: written at once while nothing is
buffered, read only while the channel's window (RFC 4254 5.2) and the client's TCP connection have room. No exception
may escape: one in a session's callback would end the whole connection with all its forwards.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import asyncssh

from relay.serve.worker.forward.rate_limiter import RateLimiter
from relay.serve.worker.forward.read_pacing import PacedSocket, ReadPacer
from relay.serve.worker.forward.write_buffer import WriteBuffer
from relay.serve.worker.ssh.fastpath.to_client import ClientWriter, ReadResult

CHUNK = 1 << 16  # bytes read from the target at once on the inherited path
HIGH = 1 << 18  # bytes buffered for the target from which on the client's window is not refilled
PART = 4  # HIGH is at most this part of the window: a small one buffers little; refilled at this part of HIGH
LEAVE_SECONDS = 300.0  # to deliver the data of a client that has closed: the largest window at 9 kB/s


class PipeChannel(Protocol):
    """What a pipe needs of its channel. Sending raises OSError when the channel is closing."""

    def carry(self, frame: ClientWriter, source: socket.socket, most: int) -> ReadResult | None:
        """Read at most `most` bytes of `source` and send them to the client; None: the fast path is off now."""

    def pass_on(self, data: bytes) -> None: ...  # send data of the target to the client
    def write_eof(self) -> None: ...  # tell the client that the target has sent EOF
    def get_recv_window(self) -> int: ...  # bytes that the client may send ahead
    def pause_reading(self) -> None: ...  # keep the client's data, and do not refill its window
    def resume_reading(self) -> None: ...  # deliver it, and refill the window
    def close(self) -> None: ...  # close when all data is sent
    def abort(self) -> None: ...  # close now, and drop unsent data
    def silence(self) -> None: ...  # send nothing more, not even the close


class Pipe(asyncssh.SSHTCPSession[bytes]):
    """The data of one open forward. `ended` is called exactly once, with the reason of the end."""

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
        """`readable`: the client's TCP connection has room; `writer` has memory to read into, `pacer` says how much."""
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._writer = writer
        self._reader = PacedSocket(pacer, sock)
        self._fd = sock.fileno()
        self._ended = ended
        self._chan: PipeChannel | None = None
        self._unsent = WriteBuffer()  # client -> target, not yet accepted by the target's socket
        self._client_eof = False
        self._target_eof = False
        self._shut = False  # nothing more can be sent to the target: EOF was passed on, or it failed
        self._window_open = True
        self._connection_open = readable
        self._reading = False
        self._limiter = limiter
        self._within_rate = True
        self._full = False  # much is buffered for the target
        self._high = HIGH
        self._paused = False  # the client's window is not refilled
        self._over = False
        self._leaving: asyncio.TimerHandle | None = None  # the client has closed, the target has not accepted all yet
        self._reason = ""
        self.sent = 0  # bytes accepted by the target's socket
        self.received = 0  # bytes read from the target

    # ---- called by the channel

    def connection_made(self, chan: Any) -> None:
        """The channel is confirmed: from now on bytes may flow."""
        self._chan = chan
        self._high = min(HIGH, chan.get_recv_window() // PART)
        if self._over:
            chan.close()
        elif self._limiter.charge(self, 0):
            self._update()
        else:  # the person's other forwards have overdrawn the rate: this one queues behind them
            self._set_within_rate(False)

    def data_received(self, data: bytes, datatype: object = None) -> None:
        """The client sent `data`, on the inherited path."""
        self.send_to_target([memoryview(data)], len(data))

    def send_to_target(self, pieces: Sequence[memoryview], total: int) -> None:
        """The client sent `total` bytes: send them, or buffer them and possibly stop refilling the client's window.

        The memory of the pieces is reused afterwards.
        """
        if self._over or self._shut:
            return
        self._reader.interrupt()
        if not self._limiter.charge(self, total):
            self._set_within_rate(False)
        accepted = 0
        if not self._unsent:
            try:
                accepted = self._sock.sendmsg(pieces) if len(pieces) > 1 else self._sock.send(pieces[0])
            except (BlockingIOError, InterruptedError):
                pass
            except OSError as error:
                self._unsendable(error)
                return
            self.sent += accepted
            if accepted == total:
                return
            self._loop.add_writer(self._fd, self._writable)
        for piece in pieces:
            if accepted < len(piece):
                self._unsent.add(piece[accepted:])
            accepted = max(accepted - len(piece), 0)
        if len(self._unsent) > self._high:
            self._full = True
            self._hold()

    def eof_received(self) -> bool:
        """The client will send no more. The other direction stays open (half-close)."""
        self._client_eof = True
        if not self._unsent:
            self._pass_eof()
        return True

    @property
    def has_unsent(self) -> bool:
        """Whether data of the client is buffered for the target."""
        return bool(self._unsent)

    def client_closed(self, kept: list[memoryview]) -> None:
        """The client has closed: deliver the data that it sent before, `kept` last, then close the channel.

        As sshd does it, but for a limited time. Data of the target is read and dropped meanwhile: a target that must
        send first would accept no more, and a socket that is closed with unread data loses the data that it has sent.
        """
        self._client_eof = self._window_open = True
        self._update()
        self._leaving = self._loop.call_later(LEAVE_SECONDS, self._close, "target-silent")
        if kept:
            self.send_to_target(kept, sum(map(len, kept)))
        if not self._unsent:
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

    # ---- called by the rate limiter

    def resume(self) -> None:
        """The person's rate allows more now."""
        self._set_within_rate(True)

    def _set_within_rate(self, within_rate: bool) -> None:
        self._within_rate = within_rate
        self._hold()
        self._update()

    def _hold(self) -> None:
        """Stop or resume refilling the client's window."""
        hold = self._full or not self._within_rate
        if hold != self._paused and self._chan is not None:
            self._paused = hold
            if hold:
                self._chan.pause_reading()
            else:
                self._chan.resume_reading()

    # ---- called by the connection and the forward

    def set_client_writable(self, writable: bool) -> None:
        """Whether the client's TCP connection has room; False also during a key re-exchange."""
        self._connection_open = writable
        self._update()

    def abort(self, reason: str, *, quiet: bool = False) -> None:
        """End now, for `reason` (it stands in the closing row).

        `quiet`: nothing is sent on this channel, because the whole connection ends, and says why.
        """
        self._reason = self._reason or reason
        chan, self._chan = self._chan, None
        if chan is not None:  # unsent data is dropped in both cases: the decision is that no more bytes flow
            (chan.silence if quiet else chan.abort)()
        self._finish(self._reason)

    # ---- the target's socket

    def _update(self) -> None:
        """Read the target exactly while there is room for its data."""
        has_room = self._window_open and self._connection_open and self._within_rate
        want = has_room and not self._target_eof and not self._over and self._chan is not None
        if want == self._reading:
            return
        self._reading = want
        if want:
            self._loop.add_reader(self._fd, self._readable)
        else:
            self._loop.remove_reader(self._fd)

    def _readable(self) -> None:
        chan = self._chan
        if chan is None:
            return
        result = chan.carry(self._writer, self._sock, self._reader.share)
        if result is None:
            result = self._read(chan)
        else:
            self.received += result.amount
        amount, over, error = result
        self._reader.note(amount)
        if amount and not self._over and not self._limiter.charge(self, amount):
            self._set_within_rate(False)
        if error is not None:
            self._close(_reason(error))
        elif over:
            self._target_ended(chan)

    def _read(self, chan: PipeChannel) -> ReadResult:
        """Read the target once and send its data on the inherited path."""
        try:
            data = self._sock.recv(CHUNK)
        except (BlockingIOError, InterruptedError):
            return ReadResult(0)
        except OSError as error:
            return ReadResult(0, error=error)
        if data:
            self.received += len(data)
            self._try_to_send(partial(chan.pass_on, data))
        return ReadResult(len(data), over=not data)

    def _target_ended(self, chan: PipeChannel) -> None:
        self._target_eof = True
        self._update()
        if self._shut:
            self._close("target-closed")
            return
        self._try_to_send(chan.write_eof)

    def _try_to_send(self, send: Callable[[], None]) -> None:
        try:
            send()
        except OSError:  # asyncssh: the channel is no longer open for sending (BrokenPipeError)
            if self._leaving is None:
                self._close("client-closed")

    def _writable(self) -> None:
        try:
            accepted = self._sock.sendmsg(self._unsent.head(self._reader.share))
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._unsendable(error)
            return
        self.sent += accepted
        self._unsent.drop(accepted)
        if self._full and len(self._unsent) < self._high // PART:
            self._full = False
            self._hold()
        if not self._unsent and self._fd >= 0:  # resume_reading may have delivered more, and ended it
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
        """The target accepts no more; its data that was not read yet is still sent to the client."""
        self._reason = self._reason or _reason(error)
        self._shut = True
        self._unsent.clear()
        self._loop.remove_writer(self._fd)
        self._full, self._within_rate = False, True
        self._hold()  # later data of the client is dropped, as a TCP stack would
        if self._target_eof or self._leaving is not None:
            self._close(self._reason)

    def _close(self, reason: str) -> None:
        """Both directions are done, or the target is gone: close the channel when its data is sent."""
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
        self._unsent.clear()

    def _finish(self, reason: str) -> None:
        if self._over:
            return
        self._over = True
        self._release()
        self._limiter.leave(self)
        self._ended(self, reason)


def _reason(error: OSError) -> str:
    """The stable word of the closing row for an error of the target's socket."""
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return "target-reset"
    if isinstance(error, TimeoutError):
        return "target-silent"  # TCP_USER_TIMEOUT or keepalive
    return "target-failed"

"""The worker's client of the audit log: rows are kept until the supervisor reports them durable, and resent by id.

An event (`note`) is delivered at least once; its id makes the supervisor record it once. A forward's opening row
(`send_opening`) is waited for: without it no byte flows.
"""

import asyncio
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from relay.core.audit.event import Value
from relay.core.escape import escape
from relay.serve.ipc import IpcLink, Message, encode

MAX_UNACKNOWLEDGED = 100_000  # rows kept while no supervisor answers (about 50 MB); later ones are counted, not kept
BUGS_PER_MINUTE = 6  # tracebacks written in full

_LATE = "late"  # no supervisor answers that
_LOST = "supervisor-lost"


class Busy(Exception):
    """The opening row did not become durable. `refused`: the supervisor said so; else it may still be written."""

    def __init__(self, detail: str, *, refused: bool, limit: str = "") -> None:
        """`limit`: which limit was reached, if one was (person, key, target, connection, dials)."""
        super().__init__(detail)
        self.limit = limit
        self.refused = refused


class OpeningRow:
    """The opening row of one forward, from its being sent to the supervisor's answer."""

    def __init__(self, message: Message, timeout: float, forget: Callable[[], None]) -> None:
        self.message = message
        self.resent = False  # an earlier supervisor may have recorded it, whatever this one answers
        self._timeout = timeout
        self._forget = forget
        self._limit = ""
        self._answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @property
    def answered(self) -> bool:
        """Whether the answer is known; later ones are ignored."""
        return self._answer.done()

    def answer(self, problem: str, limit: str = "") -> None:
        """The row is durable (""), or it is not, for that reason; `limit` names the limit that was reached."""
        if not self._answer.done():
            self._limit = limit
            self._answer.set_result(problem)

    async def durable(self) -> None:
        """Wait until the row is durable. Raises Busy when it cannot be, or is not in time."""
        timer = asyncio.get_running_loop().call_later(self._timeout, self.answer, _LATE)
        try:
            problem = await self._answer
        finally:
            timer.cancel()
            self._forget()
        if problem == _LATE:
            raise Busy(f"the audit row was not durable within {self._timeout:g} s", refused=False)
        if problem:
            raise Busy(problem, refused=problem != _LOST and not self.resent, limit=self._limit)


class AuditClient:
    """The rows of one worker that are on their way to the audit log."""

    def __init__(self, make_id: Callable[[], str], now_us: Callable[[], int]) -> None:
        self.link: IpcLink | None = None  # None while no supervisor answers
        self.timeout = 10.0
        self._make_id = make_id
        self._now_us = now_us
        self._unacknowledged: dict[str, Message] = {}
        self._openings: dict[str, OpeningRow] = {}
        self._successor_until = float("-inf")  # loop time until which the next supervisor is waited for
        self._lost = 0
        self._bugs: list[float] = []

    def note(self, name: str, fields: Mapping[str, Value], number: str | None = None, *, delay: float = 0.0) -> None:
        """Record an event; it is resent until the supervisor reports it durable.

        `delay`: seconds that it may wait for other messages to go with.
        """
        number = number or self._make_id()
        message: Message = {"t": "note", "e": [number, self._now_us(), name, dict(fields)]}
        if len(self._unacknowledged) >= MAX_UNACKNOWLEDGED and name != "forward.closed":
            self._lost += 1
            return
        self._unacknowledged[number] = message
        if self.link is not None:
            self.link.send(message, delay=delay)

    def send_opening(self, number: str, fields: Mapping[str, Value]) -> OpeningRow:
        """Send the opening row of forward `number`; its `durable` waits for the answer.

        Raises Busy when there is no supervisor and none is expected.
        """
        if self.link is None and asyncio.get_running_loop().time() > self._successor_until:
            raise Busy("no supervisor answers", refused=True)
        message: Message = {"t": "open", "e": [number, self._now_us(), "forward.opened", dict(fields)]}
        row = OpeningRow(message, self.timeout, lambda: self._forget(number))
        self._openings[number] = row
        if self.link is not None:
            self.link.send(message)
        return row

    def _forget(self, number: str) -> None:
        self._openings.pop(number, None)

    def count_unauthenticated(self, kind: str, source: str, port: int, fingerprint: str, login: str) -> str:
        """Count an event before log-in; gives the reference id. Nothing is kept for it here."""
        number = self._make_id()
        if self.link is not None:
            self.link.send(
                {
                    "t": "stranger",
                    "kind": kind,
                    "source": source,
                    "port": port,
                    "id": number,
                    "fingerprint": fingerprint,
                    "login": login[:256],
                }
            )
        return number

    def report_bug(self, error: BaseException) -> None:
        """Write an unexpected exception to stderr, with its traceback; at most a few per minute."""
        now = asyncio.get_running_loop().time()
        self._bugs = [at for at in self._bugs if now - at < 60]
        if len(self._bugs) >= BUGS_PER_MINUTE:
            return
        self._bugs.append(now)
        text = "".join(traceback.format_exception(error))[-4000:]
        sys.stderr.write(f"relay worker: a bug of ours, please report it: {escape(str(error), 200)}\n{text}\n")

    # ---- what the supervisor answers

    def acknowledged(self, numbers: list[str]) -> None:
        """Drop the rows that the supervisor has reported as durable; record how many were lost once there is room."""
        for number in numbers:
            self._unacknowledged.pop(number, None)
        if self._lost and self.link is not None and len(self._unacknowledged) < MAX_UNACKNOWLEDGED // 2:
            lost, self._lost = self._lost, 0
            self.note("audit.lost", {"count": lost, "reason": "no supervisor answered for too long"})

    def opening_answered(self, number: str, problem: str, limit: str = "") -> None:
        """The answer to an opening row: "" when it is durable, else the reason, and the limit that was reached."""
        row = self._openings.get(number)
        if row is not None:
            row.answer(problem, limit)

    def expect_successor(self, seconds: float) -> None:
        """The supervisor is being replaced: openings wait for the next one, each as long as for its row in any case."""
        self._successor_until = asyncio.get_running_loop().time() + seconds

    def disconnected(self) -> None:
        """The supervisor is gone: rows are kept; openings are refused unless a successor is expected."""
        self.link = None
        if asyncio.get_running_loop().time() < self._successor_until:
            return
        for row in self._openings.values():
            row.answer(_LOST)

    def resend(self, link: IpcLink) -> None:
        """A supervisor answers (again): send all that was not acknowledged, in order, and the openings that wait."""
        self.link = link
        self._successor_until = float("-inf")
        # as bulk: they may be more than a link queues, and they are kept here anyway
        link.send_bulk([encode(message) for message in self._unacknowledged.values()])
        for row in self._openings.values():
            if not row.answered:
                row.resent = True
                link.send(row.message)

    def unacknowledged_events(self) -> list[Any]:
        """The events that no supervisor has reported durable, oldest first."""
        return [message["e"] for message in self._unacknowledged.values()]

    @property
    def unacknowledged(self) -> int:
        """How many rows are not acknowledged yet."""
        return len(self._unacknowledged)

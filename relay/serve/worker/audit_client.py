"""What a worker tells the supervisor, kept until it is durable: rows are resent by id after a reconnect."""

import asyncio
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from relay.core.audit.event import Value
from relay.core.escape import escape
from relay.serve.ipc import IpcLink, Message, encode, framed, inside

MOST_UNACKED = 100_000  # rows kept while no supervisor answers (about 50 MB); later ones are counted, not kept
BUGS_PER_MINUTE = 6  # tracebacks written in full


_LATE = "late"  # no supervisor answers that


class Busy(Exception):
    """The opening row did not become durable. `refused`: the supervisor says so; else it may still be written."""

    def __init__(self, detail: str, *, refused: bool, limit: str = "") -> None:
        """`limit`: of whom or what it is, where a limit was reached (person, key, target, connection, dials)."""
        super().__init__(detail)
        self.limit = limit
        self.refused = refused


class AuditClient:
    """The worker's end of the link, as far as the audit log is concerned."""

    def __init__(self, make_id: Callable[[], str], now_us: Callable[[], int]) -> None:
        self.link: IpcLink | None = None  # None while no supervisor answers
        self.timeout = 10.0
        self._make_id = make_id
        self._now_us = now_us
        self._unacked: dict[str, Message] = {}
        self._openings: dict[str, tuple[asyncio.Future[str], bytes]] = {}
        self._successor_until = float("-inf")  # loop time until which the next supervisor is waited for
        self._limited: dict[str, str] = {}  # opening refused by a limit -> of whom
        self._resent: set[str] = set()  # openings that a former supervisor may have recorded, whatever this one says
        self._lost = 0
        self._bugs: list[float] = []

    def note(self, name: str, fields: Mapping[str, Value], number: str | None = None, later: float = 0.0) -> None:
        """Record an event; it is resent until the supervisor says that it is durable.

        `later`: for so many seconds it may wait for something to go with.
        """
        number = number or self._make_id()
        message: Message = {"t": "note", "e": [number, self._now_us(), name, dict(fields)]}
        if len(self._unacked) >= MOST_UNACKED and name != "forward.closed":
            self._lost += 1
            return
        self._unacked[number] = message
        if self.link is not None and later:
            self.link.send_later(message, later)
        elif self.link is not None:
            self.link.send(message)

    def ask_row(self, number: str, shared: str, fields: Mapping[str, Value]) -> "asyncio.Future[str]":
        """Send the opening row of forward `number` at once; `row_durable` waits for the answer. Raises Busy.

        `shared` are fields in JSON, without the braces, which come before the others.
        """
        loop = asyncio.get_running_loop()
        if self.link is None and loop.time() > self._successor_until:
            raise Busy("no supervisor answers", refused=True)
        answer: asyncio.Future[str] = loop.create_future()
        text = f'{{"t":"open","e":["{number}",{self._now_us()},"forward.opened",{{{shared},{inside(fields)}}}]}}'
        row = framed(text)
        self._openings[number] = answer, row
        if self.link is not None:
            self.link.send_now(row)
        return answer

    async def row_durable(self, number: str, answer: "asyncio.Future[str]") -> None:
        """Wait until that row is durable. Raises Busy when it cannot be, or not in time."""
        timer = answer.get_loop().call_later(self.timeout, _late, answer)
        try:
            problem = await answer
        finally:
            timer.cancel()
            self._openings.pop(number, None)
            limit, resent = self._limited.pop(number, ""), number in self._resent
            self._resent.discard(number)
        if problem == _LATE:
            raise Busy(f"the audit row was not durable within {self.timeout:g} s", refused=False)
        if problem:
            raise Busy(problem, refused=problem != "supervisor-lost" and not resent, limit=limit)

    def stranger(self, kind: str, source: str, port: int, fingerprint: str, login: str) -> str:
        """Count something that happened before log-in; gives the reference id. Nothing is kept for it here."""
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

    def bug(self, error: BaseException) -> None:
        """Write down an exception of ours: the traceback for the first few a minute, so the log is never flooded."""
        now = asyncio.get_running_loop().time()
        self._bugs = [at for at in self._bugs if now - at < 60]
        if len(self._bugs) >= BUGS_PER_MINUTE:
            return
        self._bugs.append(now)
        text = "".join(traceback.format_exception(error))[-4000:]
        sys.stderr.write(f"relay worker: a bug of ours, please report it: {escape(str(error), 200)}\n{text}\n")

    # ---- what the supervisor answers

    def acknowledged(self, numbers: list[str]) -> None:
        """These rows are durable."""
        for number in numbers:
            self._unacked.pop(number, None)
        if self._lost and self.link is not None and len(self._unacked) < MOST_UNACKED // 2:
            lost, self._lost = self._lost, 0
            self.note("audit.lost", {"count": lost, "reason": "no supervisor answered for too long"})

    def answered(self, number: str, problem: str, limit: str = "") -> None:
        """The answer to an opening row: "" when it is durable, else why not, and which limit was reached."""
        answer, _ = self._openings.get(number, (None, None))
        if answer is not None and not answer.done():
            if limit:
                self._limited[number] = limit
            answer.set_result(problem)

    def expect_successor(self, seconds: float) -> None:
        """The supervisor hands over: openings wait for the next one, each as long as for its row in any case."""
        self._successor_until = asyncio.get_running_loop().time() + seconds

    def disconnected(self) -> None:
        """The supervisor is gone: what must be recorded is kept, and openings are refused unless a successor comes."""
        self.link = None
        if asyncio.get_running_loop().time() < self._successor_until:
            return
        for answer, _ in self._openings.values():
            if not answer.done():
                answer.set_result("supervisor-lost")

    def resend(self, link: IpcLink) -> None:
        """A supervisor is there (again): send what was not acknowledged, in order, and what waits to be opened."""
        self.link = link
        self._successor_until = float("-inf")
        # not counted as waiting in the link: they may be more than it may hold, and they are kept here anyway
        link.send_law([encode(message) for message in self._unacked.values()])
        for number, (answer, row) in self._openings.items():
            if not answer.done():  # by its id a row is recorded once, should the former supervisor have done it already
                self._resent.add(number)
                link.send_now(row)

    def unacknowledged(self) -> list[Any]:
        """The events that no supervisor has said to be durable, oldest first."""
        return [message["e"] for message in self._unacked.values()]

    @property
    def waiting(self) -> int:
        """Rows not yet acknowledged."""
        return len(self._unacked)


def _late(answer: "asyncio.Future[str]") -> None:
    if not answer.done():
        answer.set_result(_LATE)

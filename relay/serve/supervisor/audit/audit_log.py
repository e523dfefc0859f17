"""The audit log of the supervisor: events go to the database and to stderr, unauthenticated clients into counters.

It owns the group commit (the audit database's only writer), the log on stderr and the counters.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar

from relay.core.audit import checkpoint, log_lines
from relay.core.audit.anchor import Anchor
from relay.core.audit.event import Event, Value
from relay.core.ids import Ids
from relay.core.settings import Settings
from relay.errors import StoreUnavailable
from relay.serve.supervisor.audit.anchor_publisher import AnchorPublisher
from relay.serve.supervisor.audit.checkpoint_signer import CheckpointSigner, CheckpointTerms
from relay.serve.supervisor.audit.group_commit import Answer, GroupCommit
from relay.serve.supervisor.audit.stderr_log import StderrLog
from relay.serve.supervisor.counters import Counters
from relay.store.preauth_counters import AttemptTally, veiled
from relay.store.writer import AuditWriter

_Result = TypeVar("_Result")

STRANGERS_SECONDS = 10.0  # how often counters of unauthenticated clients go to the database
ANCHOR_SECONDS = 1.0  # for the last anchors to get out when the database is closed
PRUNE_SECONDS = 86_400.0  # how often old counters are deleted


class AuditLog:
    """All audit events of the relay. Without a database (before `open`, after `close`) events are dropped."""

    def __init__(self, settings: Callable[[], Settings], policy: Callable[[], str]) -> None:
        """`settings` and the version of the `policy` are those in force."""
        self.journal = StderrLog()
        self.say = self.journal.say
        self.counts = Counters()
        self.anchors = AnchorPublisher(lambda: settings().audit_anchors, self.say)
        self._settings, self._policy = settings, policy
        self._loop = asyncio.get_running_loop()
        self._ids = Ids(0)
        self._writer: GroupCommit | None = None
        self._salt = b""
        self._tally = AttemptTally(b"")

    def open(self, path: Path, node: str) -> dict[str, Event]:
        """Take the writer's lock and begin; openings without a closing row. Raises StoreUnavailable."""
        writer = GroupCommit(path, node, self._written, self.counts.commits, terms=self._terms, sealed=self._sealed)
        self._salt = writer.salt
        self._tally = AttemptTally(self._salt)
        unclosed = writer.open_forwards()
        writer.start()
        self._writer = writer
        return unclosed

    async def close(self) -> None:
        """Write the waiting rows, then close the database."""
        if self._writer is not None:
            self._writer.strangers(self._tally.take())
            await self._writer.close()
            await asyncio.sleep(0)  # the loop receives the last checkpoint's anchor
            await asyncio.to_thread(self.anchors.flush, ANCHOR_SECONDS)

    def now_us(self) -> int:
        """UTC microseconds."""
        return time.time_ns() // 1000

    def make_id(self) -> str:
        """A new id of the supervisor's slot."""
        return self._ids.make(self.now_us())

    @property
    def failing(self) -> str:
        """Why rows cannot be written now; "" when they can."""
        return self._writer.failing if self._writer is not None else "closed"

    @property
    def lost(self) -> int:
        """Rows that could not be recorded at all."""
        return self._writer.lost if self._writer is not None else 0

    @property
    def has_ballast(self) -> bool:
        """Whether there is a reserve for the rows that must be written on a full disk."""
        return self._writer is not None and self._writer.has_ballast

    async def run_in_writer(self, call: Callable[[AuditWriter], _Result]) -> _Result:
        """See GroupCommit.run_in_writer. Raises StoreUnavailable where there is no database."""
        if self._writer is None:
            raise StoreUnavailable("the audit database is closed")
        return await self._writer.run_in_writer(call)

    @property
    def sealer(self) -> CheckpointSigner | None:
        """The signer of checkpoints; None while there is no database."""
        return self._writer.sealer if self._writer is not None else None

    def seal_status(self) -> dict[str, Value | float]:
        """How the log is sealed, for `doctor`."""
        sealer = self.sealer
        if sealer is None:
            return {}
        return {
            "at": sealer.sealed_at,
            "unsealed": sealer.unsealed,
            "overdue": sealer.overdue,
            "problem": sealer.problem,
            "anchors": self.anchors.problem,
        }

    def note(self, name: str, fields: Mapping[str, Value]) -> None:
        """Record an event of the supervisor itself."""
        self.event(Event(self.make_id(), self.now_us(), name, fields))

    def event(self, event: Event, answer: Answer | None = None) -> None:
        """Record an event; `answer` is called with "" when it is durable."""
        if self._writer is not None:
            self._writer.note(event, answer)

    def opening(self, event: Event, answer: Answer) -> None:
        """Record a forward's opening (see GroupCommit.opening)."""
        if self._writer is None:
            answer("the audit database is closed")
        else:
            self._writer.opening(event, answer)

    def stranger(
        self, kind: str, address: str, port: int, *, number: str = "", fingerprint: str = "", login: str = ""
    ) -> None:
        """Count something that happened before log-in, and write a line for fail2ban."""
        self.counts.failures.add(kind)
        parsed = ip_address(address)
        parsed = getattr(parsed, "ipv4_mapped", None) or parsed
        self._tally.add(
            self.now_us(), parsed, kind, reference=number, fingerprint=fingerprint, login=login if login else None
        )
        name = veiled(login, self._salt) if login else ""
        self.journal.stranger(
            log_lines.preauth_line(kind, str(parsed), port, login=name, fingerprint=fingerprint, reference=number)
        )

    async def store_strangers(self, days: Callable[[], int]) -> None:
        """Store counters of unauthenticated clients every 10 seconds, and delete those older than `days()`."""
        pruned = float("-inf")
        while True:
            if self._writer is not None and self._loop.time() - pruned > PRUNE_SECONDS:
                pruned = self._loop.time()
                self._writer.prune(self.now_us(), days())
            await asyncio.sleep(STRANGERS_SECONDS)
            counts = self._tally.take()
            if counts and self._writer is not None:
                if self._writer.failing:
                    self._tally.give_back(counts)
                else:
                    self._writer.strangers(counts)

    def probe(self) -> None:
        """Test soon whether rows can be written, and update `failing`."""
        if self._writer is not None:
            self._writer.probe()

    def _terms(self) -> CheckpointTerms:
        settings = self._settings()
        return CheckpointTerms(
            settings.audit_seal_rows, settings.audit_seal_after, settings.audit_heartbeat, self._policy()
        )

    def _sealed(self, event: Event, anchor: Anchor) -> None:
        """Publish the anchor of a checkpoint or of a new key. Only the new key is logged on stderr."""
        self.counts.written((event,))
        self.anchors.put(anchor)
        if event.name == checkpoint.KEY:
            self.journal.event(log_lines.event_line(event))

    def _written(self, events: list[Event]) -> None:
        self.counts.written(events)
        for event in events:
            self.journal.event(log_lines.event_line(event))

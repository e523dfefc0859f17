"""Signer of checkpoints, in the thread that writes the audit log.

Nothing waits for a checkpoint: it is one row more, written between two groups of rows. The keys, whose files cost a
sync each, are made ready and erased by a thread of their own. What fails is tried again every few seconds, and told by
`problem`; forwards go on meanwhile, and the next checkpoint speaks for their rows.

A crash at any point continues: at each start, and after each failure, the log is asked which key it announced last,
and only that one goes on (store.signing_key).
"""

import math
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from relay.core.audit import checkpoint as seal
from relay.core.audit.anchor import Anchor, anchor
from relay.core.audit.checkpoint import Checkpoint, Reason
from relay.core.audit.event import Event, Value
from relay.core.ids import SLOTS, Ids
from relay.errors import RelayError
from relay.store import checkpoint_state, signing_key
from relay.store.checkpoint_state import CheckpointState
from relay.store.reader import AuditReader
from relay.store.signing_key import SigningKey
from relay.store.writer import AuditWriter

SLOT = SLOTS - 2  # of ids: the last one is the command line's
RETRY_SECONDS = 2.0
END_SECONDS = 5.0  # for the last checkpoint when the relay ends: then the next start seals
PATIENCE_SECONDS = 60.0  # beyond what was promised, before it is said that a checkpoint is overdue


@dataclass(frozen=True, slots=True)
class CheckpointTerms:
    """How often (relay.yaml, audit), and what is law."""

    rows: int = 1000
    after: float = 60.0  # seconds from the first row that is not sealed
    heartbeat: float = 900.0  # seconds from the last checkpoint, though nothing happened
    policy: str = ""


class CheckpointSigner:
    """Makes the checkpoints of one database. All but `problem`, `overdue`, `sealed_at` is the writing thread's."""

    def __init__(
        self,
        path: Path,
        node: str,
        terms: Callable[[], CheckpointTerms],
        told: Callable[[Event, Anchor], None],
        wake: Callable[[], None],
    ) -> None:
        """`told` gets each row that was written, with its anchor; `wake` makes the writing thread call `look`."""
        self._path, self._node, self._terms, self._told, self._wake = path, node, terms, told, wake
        self._state = path.parent
        self._ids = Ids(SLOT)
        self._standing: CheckpointState | None = None  # None: not known, or not any more
        self._signer: SigningKey | None = None  # the key that signs next
        self._next: SigningKey | None = None  # the one after it
        self._beginning: tuple[Reason, str] | None = None  # the signer is to be announced: why
        self._unsealed = 0  # rows
        self._since = 0.0  # when the first of them was written
        self._beat = time.monotonic()  # when the last checkpoint was
        self._not_before = 0.0  # after a failure
        self._held = False  # rows could not be written the last time it was asked
        self._trouble = ""  # what failed since the last checkpoint
        self._ending = False
        self.problem = ""  # why no checkpoint can be made; "" while it can
        self.sealed_at = 0.0  # Unix seconds of the last one
        self._errands: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._idle = threading.Event()  # the keys' thread is at rest, and what it found is there
        self._idle.set()
        self._thread = threading.Thread(target=self._run, name="audit keys", daemon=True)
        self._thread.start()

    @property
    def overdue(self) -> bool:
        """Whether a checkpoint should have been made long ago."""
        terms, now = self._terms(), time.monotonic()
        late = self._unsealed > 0 and now - self._since > terms.after + PATIENCE_SECONDS
        return late or now - self._beat > terms.heartbeat + PATIENCE_SECONDS

    @property
    def unsealed(self) -> int:
        """How many rows no checkpoint speaks for yet."""
        return self._unsealed

    # ---- the writing thread

    def wrote(self, rows: int) -> None:
        """So many rows became durable."""
        if not self._unsealed:
            self._since = time.monotonic()
        self._unsealed += rows

    def pause(self) -> float:
        """Seconds after which `look` has something to do, if nothing else happens."""
        now = time.monotonic()
        if not self._idle.is_set():
            return RETRY_SECONDS  # or when the keys' thread wakes us
        if now < self._not_before:
            return self._not_before - now
        if self._signer is None or self._next is None:
            return 0.0
        return max(self._due_at() - now, 0.0)

    def hold(self, problem: str) -> None:
        """No row may be written now but those that must; the next checkpoint says so."""
        self.problem = self._trouble = problem
        self._held = True

    def look(self, writer: AuditWriter) -> None:
        """Do what is due. Raises nothing: whatever fails is tried again."""
        if self._held:
            self._held, self.problem = False, ""
        if not self._idle.is_set() or time.monotonic() < self._not_before:
            return
        try:
            self._look(writer)
        except Exception as error:  # the thread must go on: forwards wait for its rows
            self._standing = self._signer = self._next = None  # what became of the row is not known
            self._failed(error)

    def finish(self, writer: AuditWriter) -> None:
        """Seal what is left, and let the keys be; the database is closed next."""
        self._ending = True
        deadline = time.monotonic() + END_SECONDS
        while self._unsealed and not self.problem and time.monotonic() < deadline:
            self.look(writer)
            self._idle.wait(max(deadline - time.monotonic(), 0.0))
            time.sleep(0.001)
        self._errands.put(None)
        self._thread.join(END_SECONDS)

    def _due_at(self) -> float:
        terms = self._terms()
        # what the last checkpoint promised holds, though the setting is longer now
        promised = self._standing.within if self._standing is not None else 0
        heartbeat = self._beat + min(terms.heartbeat, promised or terms.heartbeat)
        if not self._unsealed:
            return heartbeat
        if self._ending or self._unsealed >= terms.rows:
            return 0.0
        return min(heartbeat, self._since + terms.after)

    def _look(self, writer: AuditWriter) -> None:
        if self._standing is None:
            with AuditReader(self._path, only_live=True) as reader:  # rows wait for this thread
                self._standing = checkpoint_state.standing(reader)
            self._unsealed = 0
            self.wrote(self._standing.head - self._standing.sealed)
            self.sealed_at = self._standing.time / 1e6
        if self._signer is None:
            standing = self._standing
            self._order(lambda: self._find(standing))
            return
        if self._beginning is not None:
            reason, detail = self._beginning
            fields: dict[str, Value] = {"key": self._signer.public, "epoch": self._signer.epoch, "reason": reason}
            self._append(writer, self._event(seal.KEY, {**fields, "detail": detail} if detail else fields))
            self.wrote(1)
            self._beginning = None
        if self._next is None:
            self._order(self._prepare)
            return
        if self._due_at() <= time.monotonic():
            self._seal(writer, self._standing, self._signer, self._next)

    def _seal(self, writer: AuditWriter, standing: CheckpointState, signer: SigningKey, following: SigningKey) -> None:
        terms = self._terms()
        seq, prev = writer.head()
        now = time.time_ns() // 1000
        late = self._trouble if time.monotonic() - self._beat > terms.heartbeat else ""
        checkpoint = Checkpoint(
            epoch=signer.epoch,
            key=signer.public,
            next=following.public,
            count=seq - standing.sealed,
            open=writer.open_count(),
            within=math.ceil(terms.heartbeat),
            policy=terms.policy,
            detail=f"late: {late}"[:900] if late else "",
        )
        event = seal.seal(
            checkpoint, signer.sign, node=self._node, seq=seq + 1, prev=prev, id=self._ids.make(now), time=now
        )
        self._append(writer, event)
        self._standing = CheckpointState(seq + 1, seq + 1, now, checkpoint.within, following.public, following.epoch)
        self._signer, self._next = following, None
        self._unsealed, self._beat, self.sealed_at = 0, time.monotonic(), now / 1e6
        self.problem = self._trouble = ""
        self._order(self._prepare)

    def _append(self, writer: AuditWriter, event: Event) -> None:
        writer.append([event])
        seq, hash = writer.head()
        self._told(event, anchor(self._node, seq, event.time, hash))

    def _event(self, name: str, fields: dict[str, Value]) -> Event:
        now = time.time_ns() // 1000
        return Event(self._ids.make(now), now, name, fields)

    def _failed(self, error: Exception) -> None:
        self.problem = self._trouble = error.what if isinstance(error, RelayError) else str(error) or repr(error)
        self._not_before = time.monotonic() + RETRY_SECONDS

    # ---- the keys' thread

    def _order(self, errand: Callable[[], None]) -> None:
        """Have something done with the keys; until then nothing else happens here."""
        self._idle.clear()
        self._errands.put(errand)

    def _run(self) -> None:
        while (errand := self._errands.get()) is not None:
            try:
                errand()
            except Exception as error:  # a full disk, a key that others can read; it is tried again
                self._failed(error)
            self._idle.set()
            self._wake()

    def _find(self, standing: CheckpointState) -> None:
        """The key that the log announces; without it a new line of keys begins."""
        keys = signing_key.load(self._state)
        newest = max((key.epoch for key in keys.values()), default=0)
        signer = keys.get(standing.key)
        if signer is None and not standing.key and (standing.sealed or newest == 1):
            # the checkpoint that announces it was archived, or a first key was made and never announced
            signer = max(keys.values(), key=lambda key: key.epoch, default=None)
            self._beginning = None if standing.sealed or signer is None else ("init", "")
        if signer is None:
            signer, self._beginning = self._begin(standing, newest)
        signing_key.erase(self._state, keep=(signer.public,))
        self._signer = signer

    def _begin(self, standing: CheckpointState, newest: int) -> tuple[SigningKey, tuple[Reason, str]]:
        if not standing.key and not newest and not standing.sealed:
            return signing_key.make(self._state, 1), ("init", "")
        detail = f"the key of epoch {standing.epoch}, which was next, is not here"
        if newest > standing.epoch:
            detail += f", but one of epoch {newest}: checkpoints may be missing"
        return signing_key.make(self._state, max(newest, standing.epoch) + 1), ("lost", detail)

    def _prepare(self) -> None:
        """Only the key that signs next stays; and the one after it is made."""
        assert self._signer is not None
        signing_key.erase(self._state, keep=(self._signer.public,))
        self._next = signing_key.make(self._state, self._signer.epoch + 1)
        self.problem = ""

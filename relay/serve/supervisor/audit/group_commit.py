"""Group commit of audit rows: one thread writes the rows that arrive together in one transaction.

The loop never waits for the disk. Openings are answered when their transaction is on the disk, or at once with
"busy" while the database cannot be written; everything else is kept, bounded, and written when it can be.

When the disk is full the ballast (store.reserve_file) is released. Its room is only for rows that end or revoke
something (event.LAST), until a new ballast fits. So the last free page never admits a connection.
"""

import asyncio
import contextlib
import errno
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from relay.core.audit.anchor import Anchor
from relay.core.audit.event import LAST, Event
from relay.core.histogram import Histogram
from relay.errors import StoreUnavailable
from relay.serve.supervisor.audit.checkpoint_signer import CheckpointSigner, CheckpointTerms
from relay.store import database_files
from relay.store.preauth_counters import AttemptCount
from relay.store.writer import AuditWriter

_Result = TypeVar("_Result")
WriterCall = Callable[[AuditWriter], object]  # run by the thread between two groups of rows
Answer = Callable[[str], None]  # called in the loop: "" when durable, else the reason why not

MOST_OPENINGS = 4096  # waiting at once; later ones are refused at once: at 10,000 rows a second they would wait 0.4 s
MOST_KEPT = 200_000  # rows kept while the database cannot be written (about 100 MB); then the oldest but closings go
RETRY_SECONDS = 1.0
BATCH = 1024
# Longest wait of rows that are not openings, so that a log-in shares the transaction of its first forward, and closings
# share one. Openings never wait longer for it, and workers keep their rows until these are durable.
GATHER_SECONDS = 0.02
_DEFERRABLE = frozenset(("forward.closed", "connection.closed"))
NARROW = "the disk is full: only ends and what takes away are recorded"


def _nothing(writer: AuditWriter) -> None:
    """Wake the thread."""


@dataclass(slots=True)
class _Job:
    event: Event
    answer: Answer | None
    opening: bool


@dataclass(slots=True)
class _AwaitedCall:
    run: WriterCall


class GroupCommit:
    """Writes queued events in groups, each one durable transaction, in a thread of its own.

    All public methods are called from the event loop.
    """

    def __init__(
        self,
        path: Path,
        node: str,
        written: Callable[[list[Event]], None],
        commits: Histogram | None = None,
        *,
        terms: Callable[[], CheckpointTerms] = CheckpointTerms,
        sealed: Callable[[Event, Anchor], None] = lambda event, anchor: None,
    ) -> None:
        """Take the writer's lock. Raises StoreUnavailable if another process has it or the database cannot be made.

        `written` is called in the loop with the events of each durable transaction, `sealed` with each row by which
        the log is sealed; `commits` is told how long each transaction took, by the thread, which asks for the `terms`.
        """
        self._loop = asyncio.get_running_loop()
        self._path = path
        self._writer = AuditWriter(path, node)
        self._written = written
        self._commits = commits or Histogram()
        self._jobs: queue.SimpleQueue[_Job | _AwaitedCall | WriterCall | None] = queue.SimpleQueue()
        self._openings = 0
        self._deferred: list[_Job] = []  # the thread's: closings that wait for a shared transaction
        self._due = 0.0  # when they are written at the latest
        self._urgent = False  # an opening is among what was gathered
        self._kept: deque[_Job] = deque()  # the thread's: rows that could not be written yet
        self.failing = ""  # why rows cannot be written now; "" when they can
        self.lost = 0
        self.has_ballast = True  # set by the thread: rows of every kind may be written
        self._ballast_at = -1.0  # when it was last tried to make it; -1: never
        self._why_narrow = NARROW
        self._closed = False
        self._full = False  # the last failure was for want of room

        def tell(event: Event, anchor: Anchor) -> None:
            self._loop.call_soon_threadsafe(sealed, event, anchor)

        self.sealer = CheckpointSigner(path, node, terms, tell, lambda: self._jobs.put(_nothing))
        self._thread = threading.Thread(target=self._run, name="audit writer", daemon=True)

    def open_forwards(self) -> dict[str, Event]:
        """Openings without a closing row; only before `start`."""
        return self._writer.open_forwards()

    @property
    def salt(self) -> bytes:
        """The database's salt for the login names of unauthenticated clients; only before `start`."""
        return self._writer.salt

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def opening(self, event: Event, answer: Answer) -> None:
        """Record a forward's opening. `answer` is called when the row is durable, or with the reason of a refusal."""
        if self.failing or self._openings >= MOST_OPENINGS:
            answer(self.failing or "too many forwards are being opened")
            return
        self._openings += 1
        self._jobs.put(_Job(event, answer, opening=True))

    def note(self, event: Event, answer: Answer | None = None) -> None:
        """Record anything else; it is kept until it can be written."""
        self._jobs.put(_Job(event, answer, opening=False))

    def strangers(self, counts: tuple[AttemptCount, ...]) -> None:
        """Add counters of unauthenticated clients, outside the chain; lost while the database cannot be written."""
        self._jobs.put(lambda writer: writer.strangers(counts))

    def prune(self, now_us: int, days: int) -> None:
        """Delete counters of unauthenticated clients older than `days`."""
        self._jobs.put(lambda writer: writer.prune(now_us, days))

    async def run_in_writer(self, call: Callable[[AuditWriter], _Result]) -> _Result:
        """The result of a call that the thread makes with the writer, between two groups of rows.

        Raises the call's own exception; StoreUnavailable while rows cannot be written.
        """
        if self._closed:
            raise StoreUnavailable("the audit database is closed")
        done: asyncio.Future[_Result] = self._loop.create_future()

        def tell(found: Any, error: Exception | None) -> None:
            if not done.done():
                done.set_exception(error) if error is not None else done.set_result(found)

        def run(writer: AuditWriter) -> None:
            found, failed = None, None
            try:
                if self.failing:
                    raise StoreUnavailable(self.failing, "df -h")
                found = call(writer)
            except Exception as error:  # raised in the caller, not in the thread
                failed = error
            self._loop.call_soon_threadsafe(tell, found, failed)

        self._jobs.put(_AwaitedCall(run))
        return await done

    def probe(self) -> None:
        """Test soon whether rows can be written, and update `failing`."""
        self._jobs.put(lambda writer: writer.probe())

    async def close(self) -> None:
        """Write the waiting rows, then close the database."""
        self._closed = True
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join, 10.0)

    # ---- the thread

    def _run(self) -> None:
        over = False
        self._has_room()
        while not over:
            jobs: list[_Job] = []
            calls: list[WriterCall] = []
            awaited: list[WriterCall] = []
            over = self._gather(jobs, calls, awaited)
            jobs = self._select_batch(jobs, over=over)
            if not jobs and not self._kept and self.failing:  # a second has passed: try again
                self.failing = ""
                self._run_calls([lambda writer: writer.probe()])
            self._write(jobs)
            if not self.failing:
                self._run_calls([*calls, AuditWriter.fold])
            for run in awaited:
                run(self._writer)
            if self.failing:  # the last room on a full disk is for ends
                self.sealer.hold(self.failing)
            else:
                self.sealer.look(self._writer)
        self.sealer.finish(self._writer)
        self._writer.close()

    def _gather(self, jobs: list[_Job], calls: list[WriterCall], awaited: list[WriterCall]) -> bool:
        """Collect work until some of it is urgent or due. True when the thread is to end."""
        pause = RETRY_SECONDS if self._kept or self.failing else self.sealer.pause()
        if self._deferred:
            pause = max(self._due - time.monotonic(), 0.0)
        with contextlib.suppress(queue.Empty):
            while True:
                job = self._jobs.get(timeout=pause)
                if job is None:
                    return True
                if isinstance(job, _Job):
                    if not self._deferred and not jobs:
                        self._due = time.monotonic() + GATHER_SECONDS
                    jobs.append(job)
                    self._urgent = self._urgent or job.opening
                elif isinstance(job, _AwaitedCall):
                    awaited.append(job.run)
                else:
                    calls.append(job)
                if len(jobs) >= BATCH:
                    break
                waits = (jobs or self._deferred) and not self._urgent
                pause = max(self._due - time.monotonic(), 0.0) if waits else 0.0
        return False

    def _select_batch(self, jobs: list[_Job], *, over: bool) -> list[_Job]:
        """The jobs to write now. An opening does not wait for deferred closings, unless these are due."""
        urgent, self._urgent = self._urgent, False
        if not urgent or over or len(self._deferred) + len(jobs) >= BATCH or time.monotonic() >= self._due:
            jobs, self._deferred = self._deferred + jobs, []
            return jobs
        self._deferred += [job for job in jobs if job.event.name in _DEFERRABLE]
        return [job for job in jobs if job.event.name not in _DEFERRABLE]

    def _write(self, jobs: list[_Job]) -> None:
        """Write the kept rows, oldest first, then `jobs`. On failure rows are kept, and openings are refused."""
        if not self._has_room():
            self._write_last(jobs)
            return
        left: list[_Job] = []
        while self._kept and not left:
            chunk = [self._kept.popleft() for _ in range(min(BATCH, len(self._kept)))]
            left = self._store(chunk)
            self._kept.extendleft(reversed(left))
        left = jobs if left else self._store(jobs)
        if left and self._full:
            self._writer.ballast.release()
            self.has_ballast = False
            self._why_narrow = NARROW
            self._write_last(left)
        elif left:
            self._keep(left)

    def _keep(self, jobs: list[_Job]) -> None:
        self._report([job for job in jobs if job.opening], self.failing)
        self._kept.extend(job for job in jobs if not job.opening)
        while len(self._kept) > MOST_KEPT:
            self._drop_one()

    def _write_last(self, jobs: list[_Job]) -> None:
        """Write only rows that may use the last room. Others are kept, and openings are refused."""
        self.failing = self._why_narrow
        self._keep(jobs)
        last = [job for job in self._kept if job.event.name in LAST]
        if last:
            left = [job for start in range(0, len(last), BATCH) for job in self._store(last[start : start + BATCH])]
            written = {id(job) for job in last} - {id(job) for job in left}
            self._kept = deque(job for job in self._kept if id(job) not in written)
        self.failing = self._why_narrow

    def _has_room(self) -> bool:
        """Whether the ballast exists. A missing one is made anew when it fits, tried once a second."""
        if self.has_ballast and self._ballast_at >= 0:
            return True
        now = time.monotonic()
        if self._ballast_at >= 0 and now - self._ballast_at < RETRY_SECONDS:
            return False
        self._ballast_at = now
        try:
            self._writer.ballast.make()
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            self._why_narrow = NARROW if full else f"the audit log's ballast cannot be made: {error.strerror}"
        self.has_ballast = self._writer.ballast.held
        self.failing = "" if self.has_ballast else self._why_narrow
        return self.has_ballast

    def _store(self, batch: list[_Job]) -> list[_Job]:
        """Write the batch and acknowledge it. Returns the jobs that cannot be written now."""
        if not batch:
            return []
        began = time.monotonic()
        try:
            self._writer.append([job.event for job in batch])
        except StoreUnavailable as error:
            self.failing = error.what
            self._full = database_files.is_full(self._path, error)
            return batch
        except Exception as error:  # a row that the store cannot take must not stop the others
            if len(batch) > 1:
                return [left for job in batch for left in self._store([job])]
            self.lost += 1
            sys.stderr.write(f"relay: a row could not be recorded, please report it: {error!r}\n")
            self._report(batch, "internal error" if batch[0].opening else "")
            return []
        self.failing = ""
        self._commits.observe(time.monotonic() - began)
        self._report(batch, "")
        self.sealer.wrote(len(batch))
        return []

    def _drop_one(self) -> None:
        for index, job in enumerate(self._kept):
            if job.event.name != "forward.closed":
                del self._kept[index]
                self._report([job], "")
                break
        else:
            self._kept.popleft()
        self.lost += 1

    def _run_calls(self, calls: list[WriterCall]) -> None:
        try:
            for call in calls:
                call(self._writer)
        except StoreUnavailable as error:
            self.failing = error.what
        except Exception as error:  # the thread must go on: nothing is recorded without it
            sys.stderr.write(f"relay: counters could not be recorded, please report it: {error!r}\n")

    def _report(self, jobs: list[_Job], problem: str) -> None:
        if jobs:
            self._loop.call_soon_threadsafe(self._acknowledge, jobs, problem)

    def _acknowledge(self, jobs: list[_Job], problem: str) -> None:
        self._openings -= sum(job.opening for job in jobs)
        for job in jobs:
            if job.answer is not None:
                job.answer(problem)
        if not problem:
            self._written([job.event for job in jobs])

"""When is a row durable? Group commit: one thread writes what came together, one transaction for all of it.

The loop never waits for the disk. Openings are answered when their transaction is on the disk, or at once with
"busy" while the database cannot be written; everything else is kept, bounded, and written when it can be.
"""

import asyncio
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from relay.core.event import Event
from relay.core.histogram import Histogram
from relay.errors import StoreUnavailable
from relay.store.database import Writer
from relay.store.strangers import Count

Errand = Callable[[Writer], object]  # done by the thread between two groups of rows
Answer = Callable[[str], None]  # called in the loop: "" when durable, else why it never will be

MOST_OPENINGS = 4096  # waiting at once; later ones are refused at once: at 10,000 rows a second they would wait 0.4 s
MOST_KEPT = 200_000  # rows kept while the database cannot be written (about 100 MB); then the oldest but closings go
RETRY_SECONDS = 1.0
BATCH = 1024
# Seconds that rows nobody waits for wait for company: a log-in's row goes with its first forward's, and the rows of
# its end are one transaction. What an opening waits for is never longer for it, and workers keep what is not durable.
GATHER_SECONDS = 0.02


@dataclass(slots=True)
class _Job:
    event: Event
    answer: Answer | None
    opening: bool


class Recorder:
    """Owns the writer's thread. All methods are called from the loop."""

    def __init__(
        self, path: Path, node: str, written: Callable[[list[Event]], None], commits: Histogram | None = None
    ) -> None:
        """Take the writer's lock. Raises StoreUnavailable if another process has it or the database cannot be made.

        `written` is called in the loop with the events of each durable transaction; `commits` is told how long each
        took, by the thread.
        """
        self._loop = asyncio.get_running_loop()
        self._writer = Writer(path, node)
        self._written = written
        self._commits = commits or Histogram()
        self._jobs: queue.SimpleQueue[_Job | Errand | None] = queue.SimpleQueue()
        self._openings = 0
        self._kept: deque[_Job] = deque()  # the thread's: rows that could not be written yet
        self.failing = ""  # why rows cannot be written now; "" when they can
        self.lost = 0
        self._thread = threading.Thread(target=self._run, name="audit writer", daemon=True)

    def open_forwards(self) -> dict[str, Event]:
        """Openings without a closing row; only before `start`."""
        return self._writer.open_forwards()

    @property
    def salt(self) -> bytes:
        """The database's salt for strangers' names; only before `start`."""
        return self._writer.salt

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def opening(self, event: Event, answer: Answer) -> None:
        """Record a forward's opening; `answer` tells when it is durable, or why it is refused."""
        if self.failing or self._openings >= MOST_OPENINGS:
            answer(self.failing or "too many forwards are being opened")
            return
        self._openings += 1
        self._jobs.put(_Job(event, answer, opening=True))

    def note(self, event: Event, answer: Answer | None = None) -> None:
        """Record anything else; it is kept until it can be written."""
        self._jobs.put(_Job(event, answer, opening=False))

    def strangers(self, counts: tuple[Count, ...]) -> None:
        """Add strangers' counters, outside the chain; lost while the database cannot be written."""
        self._jobs.put(lambda writer: writer.strangers(counts))

    def prune(self, now_us: int, days: int) -> None:
        """Delete strangers' counters older than `days`."""
        self._jobs.put(lambda writer: writer.prune(now_us, days))

    def probe(self) -> None:
        """Find out whether rows can be written now: `failing` tells in a moment."""
        self._jobs.put(lambda writer: writer.probe())

    async def close(self) -> None:
        """Write what waits, then let the database go."""
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join, 10.0)

    # ---- the thread

    def _run(self) -> None:
        over = False
        while not over:
            jobs: list[_Job] = []
            errands: list[Errand] = []
            try:
                job = self._jobs.get(timeout=RETRY_SECONDS if self._kept or self.failing else None)
                until = time.monotonic() + GATHER_SECONDS
                while True:
                    if job is None:
                        over = True
                    elif isinstance(job, _Job):
                        jobs.append(job)
                        until = 0.0 if job.opening else until
                    else:
                        errands.append(job)
                    if over or len(jobs) >= BATCH:
                        break
                    job = self._jobs.get(timeout=max(until - time.monotonic(), 0.0))
            except queue.Empty:
                pass
            if not jobs and not self._kept and self.failing:  # a second has passed: does it work again?
                self.failing = ""
                self._run_errands([lambda writer: writer.probe()])
            self._write(jobs)
            if not self.failing:
                self._run_errands(errands)
        self._writer.close()

    def _write(self, jobs: list[_Job]) -> None:
        """Write what was kept, oldest first, then `jobs`; what cannot be written is kept, openings are refused."""
        left: list[_Job] = []
        while self._kept and not left:
            chunk = [self._kept.popleft() for _ in range(min(BATCH, len(self._kept)))]
            left = self._store(chunk)
            self._kept.extendleft(reversed(left))
        left = jobs if left else self._store(jobs)
        if left:
            self._tell([job for job in left if job.opening], self.failing)
            self._kept.extend(job for job in left if not job.opening)
            while len(self._kept) > MOST_KEPT:
                self._drop_one()

    def _store(self, batch: list[_Job]) -> list[_Job]:
        """Write the batch and tell who asked; gives back those that cannot be written now."""
        if not batch:
            return []
        began = time.monotonic()
        try:
            self._writer.append([job.event for job in batch])
            self._commits.observe(time.monotonic() - began)
        except StoreUnavailable as error:
            self.failing = error.what
            return batch
        except Exception as error:  # one row that the store cannot take must not stop the others, nor speak for them
            if len(batch) > 1:
                return [left for job in batch for left in self._store([job])]
            self.lost += 1
            sys.stderr.write(f"relay: a row could not be recorded, please report it: {error!r}\n")
            self._tell(batch, "internal error" if batch[0].opening else "")
            return []
        self.failing = ""
        self._tell(batch, "")
        return []

    def _drop_one(self) -> None:
        for index, job in enumerate(self._kept):
            if job.event.name != "forward.closed":
                del self._kept[index]
                self._tell([job], "")
                break
        else:
            self._kept.popleft()
        self.lost += 1

    def _run_errands(self, errands: list[Errand]) -> None:
        try:
            for errand in errands:
                errand(self._writer)
        except StoreUnavailable as error:
            self.failing = error.what
        except Exception as error:  # the thread must go on: nothing is recorded without it
            sys.stderr.write(f"relay: counters could not be recorded, please report it: {error!r}\n")

    def _tell(self, jobs: list[_Job], problem: str) -> None:
        if jobs:
            self._loop.call_soon_threadsafe(self._told, jobs, problem)

    def _told(self, jobs: list[_Job], problem: str) -> None:
        self._openings -= sum(job.opening for job in jobs)
        for job in jobs:
            if job.answer is not None:
                job.answer(problem)
        if not problem:
            self._written([job.event for job in jobs])

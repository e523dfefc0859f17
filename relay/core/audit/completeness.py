"""Completeness of the audit log: opening and closing rows, promised checkpoints, the clock, missing ranges.

While the relay serves, each checkpoint promises the latest time of the next one. A late checkpoint is not proof of
tampering, but it is reported. After a stop, a crash or a power failure nothing is promised.
"""

from collections.abc import Mapping
from typing import Any

from relay.core.audit.checkpoint import Checkpoint
from relay.core.audit.verification_result import VerificationAnswer

LATE_US = 3_600_000_000  # a row is written within seconds, unless the disk was full
PATIENCE_US = 120_000_000  # allowed beyond the promise, for a slow disk and for the retry of a failed checkpoint
FIRST_US = 3_600_000_000  # the first checkpoint follows within a minute, but without a promise
CLOCK_US = 1_000_000  # smaller corrections of the clock are not reported


class CompletenessCheck:
    """Promises and observations, collected while the rows are read."""

    def __init__(self) -> None:
        self.answer = VerificationAnswer()
        self.open: set[str] = set()
        self.restores: list[tuple[int, int]] = []  # rows and times of restored backups
        self._unknown = 0  # open forwards without an opening row here; -1: unknown number
        self._strays: list[tuple[int, str]] = []  # closings without an opening since the last checkpoint
        self._up = False  # the relay is serving
        self._stopped = False  # a row says that it stopped
        self._heard = 0  # time of the last checkpoint or start while it served
        self._within = 0  # promised microseconds until the next checkpoint; 0: no promise
        self._counts = True  # whether rows can be counted since the preceding checkpoint
        self._checkpoint = 0  # its number
        self._newest = 0, 0  # time and row of the newest checkpoint, start or stop
        self.edge = -(1 << 62)  # an older row is late
        self._gaps: list[tuple[int, int]] = []  # first and last missing row
        self._cut: tuple[int, int] | None = None  # the gap after the newest checkpoint
        self._ragged: set[tuple[int, int]] = set()  # gaps that do not match an archive
        self._given_up: list[tuple[int, int]] = []  # ranges that were discarded, according to a row

    # ---- rows

    def missing(self, first: int, last: int) -> None:
        """These rows are missing; a later row may explain it."""
        self._gaps.append((first, last))
        if self._checkpoint != first - 1:  # archives begin after a checkpoint and end with one
            self._ragged.add((first, last))
        self.blurred()
        self._cut = first, last

    def blurred(self) -> None:
        """Earlier rows are not completely known: counting restarts at the next checkpoint."""
        self._unknown, self._cut = -1, None
        self._up = self._stopped = self._counts = False

    def late(self, seq: int, time: int) -> None:
        """A row is much older than the rows before it; reported once until the next checkpoint."""
        hours = (self._newest[0] - time) / 3_600_000_000
        what = (
            f"{hours:.0f} h older than row {self._newest[1]} before it: the disk was full, or it was put in afterwards"
        )
        self.answer.note(seq, what)
        self.edge = -(1 << 62)

    def closed(self, seq: int, forward: str) -> None:
        """A forward without an opening row here was closed."""
        if self._unknown:
            self._strays.append((seq, forward))
        else:
            self._unopened(seq, forward)

    def reopened(self, seq: int, forward: str) -> None:
        """A forward that is open was opened again."""
        self.answer.fault(seq, f"opens the forward {forward[:40]}, which was open already")

    def announced(self) -> None:
        """A key was announced, so checkpoints will follow."""
        self._within = self._within or FIRST_US

    def checkpoint(self, seq: int, checkpoint: Checkpoint, time: int) -> None:
        """Compare a checkpoint's counts with the rows before it."""
        rows = seq - self._checkpoint - 1
        if self._counts and checkpoint.count != rows:
            self.answer.fault(seq, f"speaks for {checkpoint.count} rows, and there are {rows}")
        if self._cut is not None and checkpoint.count != seq - self._cut[1] - 1:
            self._ragged.add(self._cut)
        self._cut = None
        self._checkpoint, self._counts = seq, True
        self._balanced(seq, checkpoint)
        self._clock(seq, time, CLOCK_US)
        self._silence(seq, time, checkpoint.detail)
        self._heard, self._within = time, checkpoint.within * 1_000_000
        self._up = not self._stopped

    def served(self, seq: int, time: int) -> None:
        """The newest row that only a serving relay writes."""
        self._silence(seq, time)

    def started(self, seq: int, time: int) -> None:
        """The relay started."""
        if self._up:
            self.answer.note(seq, "a start, and no row says that the relay was stopped: a crash or a loss of power")
        self._clock(seq, time)
        self._up, self._stopped = True, False
        self._heard = time  # the earlier promise applies from here on

    def stopped(self, seq: int, time: int) -> None:
        """The relay was stopped."""
        self._clock(seq, time)
        self._silence(seq, time)
        self._up, self._stopped = False, True

    def restored(self, seq: int, time: int) -> None:
        """A backup was brought back: the relay was stopped, and what it wrote after the backup is not here."""
        self.answer.restored = True
        self.answer.note(seq, "a backup was restored: what was written after it had been made is not here")
        self.restores.append((seq, time))
        self._up, self._stopped = False, True

    def discarded(self, fields: Mapping[str, Any]) -> None:
        """A row says that archived rows were given up."""
        first, last = fields.get("first"), fields.get("last")
        if type(first) is int and type(last) is int:
            self._given_up.append((first, last))

    # ---- the whole

    def end(self, last: int, now: int | None) -> None:
        """Complete the answer after row `last`; `now` is the time if the relay is serving, else None."""
        for first, final in self._gaps:
            self._gap(first, final)
        if now is not None:
            self._silence(last, now)
        if self.open:
            self.answer.note(last, f"the last row, with {len(self.open)} open forwards")

    def _gap(self, first: int, last: int) -> None:
        rows = f"row {first} is" if first == last else f"rows {first} to {last} are"
        at = first
        for begin, end in sorted(self._given_up):
            if begin <= at <= end:
                at = end + 1
        if at > last and (first, last) in self._ragged:
            what = "a later row calls them archived and discarded, but no archive begins or ends there"
            self.answer.fault(first, f"{rows} missing: {what}")
        elif at > last:
            self.answer.note(first, f"{rows} not here: archived, and the archive discarded, as a later row says")
        else:
            self.answer.fault(first, f"{rows} missing")

    def _unopened(self, seq: int, forward: str) -> None:
        self.answer.fault(seq, f"closes the forward {forward[:40]}, and no row opened it")

    def _balanced(self, seq: int, checkpoint: Checkpoint) -> None:
        """Compare the number of open forwards, or learn it where opening rows are missing."""
        strays, self._strays = self._strays, []
        if self._unknown >= 0:
            for at, forward in strays[self._unknown :]:
                self._unopened(at, forward)
            self._unknown = max(self._unknown - len(strays), 0)
            there = len(self.open) + self._unknown
            if checkpoint.open != there:
                self.answer.fault(seq, f"counts {checkpoint.open} open forwards, and there are {there}")
        self._unknown = max(checkpoint.open - len(self.open), 0)

    def _clock(self, seq: int, time: int, slack: int = PATIENCE_US) -> None:
        """Compare a row's time with the newest one; starts and stops may have waited for a slow disk."""
        newest, row = self._newest
        if time < newest - slack:
            self.answer.fault(seq, f"{(newest - time) / 1e6:.0f} s earlier than row {row}: the clock was set back")
        elif time < newest:
            return
        self._newest, self.edge = (time, seq), time - LATE_US

    def _silence(self, seq: int, time: int, detail: str = "") -> None:
        silent = time - self._heard
        if not self._up or not self._heard or not self._within or silent <= self._within + PATIENCE_US:
            return
        what = f"{silent / 1e6:.0f} s without a checkpoint, and one was promised every {self._within / 1e6:.0f} s"
        if detail:
            self.answer.note(seq, f"{what}; the relay says why: {detail[:200]}")
        else:
            self.answer.fault(seq, what)
        self._heard = time  # reported once

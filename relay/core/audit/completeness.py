"""Is anything missing from the audit log? Openings and closings, promised checkpoints, the clock, ranges that left.

While the relay serves, each checkpoint promises when the next one follows at the latest. A longer silence proves no
deed, but somebody has to explain it. Where the relay was stopped, or ended without a word (a crash, a loss of power),
nothing was promised.
"""

from collections.abc import Mapping
from typing import Any

from relay.core.audit.checkpoint import Checkpoint
from relay.core.audit.verification_result import VerificationAnswer

LATE_US = 3_600_000_000  # a row is some seconds old at most when it is written, unless the disk was full
PATIENCE_US = 120_000_000  # beyond what was promised: for a slow disk, for the retry after a checkpoint that failed
FIRST_US = 3_600_000_000  # the first checkpoint follows within a minute; nothing has promised it yet
CLOCK_US = 1_000_000  # a clock that is set right by less than this is no news


class CompletenessCheck:
    """What was promised and what came, while the rows are read."""

    def __init__(self) -> None:
        self.verdict = VerificationAnswer()
        self.open: set[str] = set()
        self.restores: list[tuple[int, int]] = []  # rows and times of restored backups
        self._unknown = 0  # open forwards whose opening is not here; -1: not known how many
        self._strays: list[tuple[int, str]] = []  # closings without an opening since the last checkpoint
        self._up = False  # the relay serves
        self._stopped = False  # it said that it stopped
        self._heard = 0  # when it was last heard of while it served: a checkpoint, or its start
        self._within = 0  # microseconds in which it was to be heard of again; 0: nothing was promised
        self._counts = True  # whether the checkpoint before is here, or none was
        self._checkpoint = 0  # its number
        self._newest = 0, 0  # time and row of the newest checkpoint, start or stop
        self.edge = -(1 << 62)  # a row of before this is late
        self._gaps: list[tuple[int, int]] = []  # first and last row that are not here
        self._cut: tuple[int, int] | None = None  # the gap behind the newest checkpoint
        self._ragged: set[tuple[int, int]] = set()  # gaps that no archive can have left
        self._given_up: list[tuple[int, int]] = []  # ranges that a row says were discarded

    # ---- what the rows say

    def missing(self, first: int, last: int) -> None:
        """These rows are not here; a later row may say why."""
        self._gaps.append((first, last))
        if self._checkpoint != first - 1:  # archives begin behind a checkpoint and end with one
            self._ragged.add((first, last))
        self.blurred()
        self._cut = first, last

    def blurred(self) -> None:
        """What the rows said up to here is not known whole: counting begins anew with the next checkpoint."""
        self._unknown, self._cut = -1, None
        self._up = self._stopped = self._counts = False

    def late(self, seq: int, time: int) -> None:
        """A row is much older than what stands before it; said once until the next checkpoint."""
        hours = (self._newest[0] - time) / 3_600_000_000
        what = (
            f"{hours:.0f} h older than row {self._newest[1]} before it: the disk was full, or it was put in afterwards"
        )
        self.verdict.note(seq, what)
        self.edge = -(1 << 62)

    def closed(self, seq: int, forward: str) -> None:
        """A forward was closed whose opening is not here."""
        if self._unknown:
            self._strays.append((seq, forward))
        else:
            self._unopened(seq, forward)

    def reopened(self, seq: int, forward: str) -> None:
        """A forward was opened that was open."""
        self.verdict.fault(seq, f"opens the forward {forward[:40]}, which was open already")

    def announced(self) -> None:
        """There is a key: checkpoints will follow."""
        self._within = self._within or FIRST_US

    def checkpoint(self, seq: int, said: Checkpoint, time: int) -> None:
        """A checkpoint counts what is before it."""
        rows = seq - self._checkpoint - 1
        if self._counts and said.count != rows:
            self.verdict.fault(seq, f"speaks for {said.count} rows, and there are {rows}")
        if self._cut is not None and said.count != seq - self._cut[1] - 1:
            self._ragged.add(self._cut)
        self._cut = None
        self._checkpoint, self._counts = seq, True
        self._balanced(seq, said)
        self._clock(seq, time, CLOCK_US)
        self._silence(seq, time, said.detail)
        self._heard, self._within = time, said.within * 1_000_000
        self._up = not self._stopped

    def served(self, seq: int, time: int) -> None:
        """The newest row that only a serving relay writes, before what comes next."""
        self._silence(seq, time)

    def started(self, seq: int, time: int) -> None:
        """The relay began to serve."""
        if self._up:
            self.verdict.note(seq, "a start, and no row says that the relay was stopped: a crash or a loss of power")
        self._clock(seq, time)
        self._up, self._stopped = True, False
        self._heard = time  # what was promised before the end holds for the time after this

    def stopped(self, seq: int, time: int) -> None:
        """The relay ended on purpose."""
        self._clock(seq, time)
        self._silence(seq, time)
        self._up, self._stopped = False, True

    def restored(self, seq: int, time: int) -> None:
        """A backup was brought back: the relay was stopped, and what it wrote after the backup is not here."""
        self.verdict.restored = True
        self.verdict.note(seq, "a backup was restored: what was written after it had been made is not here")
        self.restores.append((seq, time))
        self._up, self._stopped = False, True

    def discarded(self, fields: Mapping[str, Any]) -> None:
        """A row says that archived rows were given up."""
        first, last = fields.get("first"), fields.get("last")
        if type(first) is int and type(last) is int:
            self._given_up.append((first, last))

    # ---- the whole

    def end(self, last: int, now: int | None) -> None:
        """All rows, up to `last`, were read; `now` is the time where the relay is known to serve, else None."""
        for first, final in self._gaps:
            self._gap(first, final)
        if now is not None:
            self._silence(last, now)
        if self.open:
            self.verdict.note(last, f"the last row, with {len(self.open)} open forwards")

    def _gap(self, first: int, last: int) -> None:
        rows = f"row {first} is" if first == last else f"rows {first} to {last} are"
        at = first
        for begin, end in sorted(self._given_up):
            if begin <= at <= end:
                at = end + 1
        if at > last and (first, last) in self._ragged:
            what = "a later row calls them archived and discarded, but no archive begins or ends there"
            self.verdict.fault(first, f"{rows} missing: {what}")
        elif at > last:
            self.verdict.note(first, f"{rows} not here: archived, and the archive discarded, as a later row says")
        else:
            self.verdict.fault(first, f"{rows} missing")

    def _unopened(self, seq: int, forward: str) -> None:
        self.verdict.fault(seq, f"closes the forward {forward[:40]}, and no row opened it")

    def _balanced(self, seq: int, said: Checkpoint) -> None:
        """Compare the number of open forwards; where openings are not here, it is how many."""
        strays, self._strays = self._strays, []
        if self._unknown >= 0:
            for at, forward in strays[self._unknown :]:
                self._unopened(at, forward)
            self._unknown = max(self._unknown - len(strays), 0)
            there = len(self.open) + self._unknown
            if said.open != there:
                self.verdict.fault(seq, f"counts {said.open} open forwards, and there are {there}")
        self._unknown = max(said.open - len(self.open), 0)

    def _clock(self, seq: int, time: int, slack: int = PATIENCE_US) -> None:
        """Checkpoints are dated as they are written; a start and a stop may wait for a slow disk before they are."""
        newest, row = self._newest
        if time < newest - slack:
            self.verdict.fault(seq, f"{(newest - time) / 1e6:.0f} s earlier than row {row}: the clock was set back")
        elif time < newest:
            return
        self._newest, self.edge = (time, seq), time - LATE_US

    def _silence(self, seq: int, time: int, detail: str = "") -> None:
        silent = time - self._heard
        if not self._up or not self._heard or not self._within or silent <= self._within + PATIENCE_US:
            return
        said = f"{silent / 1e6:.0f} s without a checkpoint, and one was promised every {self._within / 1e6:.0f} s"
        if detail:
            self.verdict.note(seq, f"{said}; the relay says why: {detail[:200]}")
        else:
            self.verdict.fault(seq, said)
        self._heard = time  # said once

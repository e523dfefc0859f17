"""Who else is told what happened? A process that sends every audit row on, as a line of JSON, at least once.

It reads the database as any reviewer does, so it can be slow, stuck or dead without a forward noticing. Its stdin is
its supervisor: at its end what is still to be sent has a moment, then the process ends. What is wrong is told on
another descriptor (`Note`), one JSON line each time it changes and once a second while rows come.
"""

import contextlib
import fcntl
import json
import os
import select
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from relay.core.audit.hash_chain import Row
from relay.core.audit.row_json import flat
from relay.errors import StoreUnavailable
from relay.review.full_log import FullLog
from relay.serve.supervisor.audit.export import cursor
from relay.serve.supervisor.audit.export.cursor import ExportPosition
from relay.serve.supervisor.audit.export.sinks import ExportSink, RotatedFileSink, StdoutSink
from relay.store.archive.archive_reader import ArchiveReader
from relay.store.reader import AuditReader
from relay.store.writer import FILE

STDOUT = "stdout"
DIRECTORY = "export"  # the one place in the state directory where an exported file may lie
_LOCK = "export.lock"
_AT_ONCE = 500  # rows: about 300 kB and 20 ms
_SAVE_SECONDS = 2.0  # how much is sent twice, at most, after a crash
_QUICKEST, _SLOWEST = 0.05, 0.5  # seconds between two looks at the database: something happens, or nothing does
_RETRY_SECONDS = 2.0
_LAST_SECONDS = 2.0  # for what is still to be sent when the relay ends
_NOTE_SECONDS = 1.0
_NICE = 10  # workers go first


class ExportSource(Protocol):
    """Where the rows are. Every method may raise StoreUnavailable."""

    def head(self) -> int:
        """The number of the last row."""

    def after(self, seq: int, limit: int = 500) -> list[Row]:
        """The rows behind row `seq`, oldest first."""


@dataclass(frozen=True, slots=True)
class ExportProgress:
    """How it goes."""

    seq: int  # the row that was sent last
    head: int  # the last there is
    problem: str = ""  # why it does not go on; "" when it does


class Exporter:
    """Sends rows from `rows` to `outlet` and keeps the position in `state`."""

    def __init__(
        self, state: Path, rows: ExportSource, outlet: ExportSink, tell: Callable[[ExportProgress], None]
    ) -> None:
        self._state = state
        self._rows = rows
        self._outlet = outlet
        self._tell = tell
        self._kept = cursor.load(state)  # as it stands on the disk
        self._last = self._kept.last
        self._saved = 0.0
        self._checked = False  # that the database still has the row sent last
        self._head = 0

    def step(self) -> bool:
        """Send some rows; whether there were any. Raises OSError or StoreUnavailable when it cannot."""
        if not self._checked:
            self._find_place()
            self._checked = True
        rows = self._rows.after(self._last.seq, _AT_ONCE)
        if not rows:
            self._head = self._rows.head()
            self._checked = self._head >= self._last.seq
            return False
        self._head = max(self._head, rows[-1].seq)
        if rows[0].seq == self._last.seq + 1 and rows[0].prev != self._last.hash:
            self._checked = False  # another database was put in its place: a restored backup
            return True
        if rows[0].seq > self._last.seq + 1:
            self.note(f"rows {self._last.seq + 1} to {rows[0].seq - 1} were discarded before they were sent")
        sent = self._outlet.write([json.dumps(flat(row)).encode() + b"\n" for row in rows])
        if not sent:
            raise OSError(0, "nobody reads what is written")
        self._last = ExportPosition(rows[sent - 1].seq, rows[sent - 1].hash)
        return True

    def save(self, now: float, seconds: float = 0.0) -> None:
        """Make what was sent durable, then the position, unless that was done `seconds` ago. Raises OSError."""
        if now - self._saved < seconds or self._kept.last == self._last:
            return
        self._saved = now
        self._outlet.sync()
        self._kept = self._kept.moved(self._last)
        cursor.save(self._state, self._kept)

    def note(self, problem: str = "") -> None:
        """Tell how it goes."""
        self._tell(ExportProgress(self._last.seq, self._head, problem))

    def _find_place(self) -> None:
        """The newest row sent that the database has: the last one, unless it is another database now."""
        for place in self._kept.places() if self._last == self._kept.last else (self._last, *self._kept.places()):
            if place.seq == 0 or self._has(place):
                self._last = place
                return

    def _has(self, place: ExportPosition) -> bool:
        found = self._rows.after(place.seq - 1, 2)
        if found and found[0].seq == place.seq:
            return found[0].hash == place.hash
        if found and found[0].seq > place.seq:  # it was archived away: what follows it says what it was
            return found[0].seq > place.seq + 1 or found[0].prev == place.hash
        return False


def outlet(where: str, size: int, kept: int, state: Path) -> ExportSink:
    """The outlet for a setting `export`. Raises OSError."""
    if where == STDOUT:
        return StdoutSink()
    path = Path(where)
    inside = state.resolve() / DIRECTORY
    with contextlib.suppress(FileNotFoundError):
        path = path.parent.resolve(strict=True) / path.name
    if path.parent == inside:
        inside.mkdir(mode=0o750, exist_ok=True)
    elif path.is_relative_to(state.resolve()):
        raise OSError(0, f"in the state directory only {inside} is for it")
    return RotatedFileSink(path, size, kept, state)


def serve(export: Exporter, ended: Callable[[float], bool], clock: Callable[[], float] = time.monotonic) -> None:
    """Send rows until `ended(seconds)`, which waits that long, says so; then what is left, for a moment."""
    pause, told, deadline = _QUICKEST, 0.0, float("inf")
    while clock() < deadline:
        problem, more = "", False
        try:
            more = export.step()
            export.save(clock(), _SAVE_SECONDS)
        except OSError as error:
            problem = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)
        except StoreUnavailable as error:
            problem = error.what
        if problem or clock() - told > _NOTE_SECONDS:
            told = clock()
            export.note(problem)
        pause = _RETRY_SECONDS if problem else 0.0 if more else min(max(pause * 2, _QUICKEST), _SLOWEST)
        if deadline < float("inf"):
            if problem or not more:
                break
        elif ended(pause):
            deadline = clock() + _LAST_SECONDS
    with contextlib.suppress(OSError):
        export.save(clock())


def main(arguments: Sequence[str]) -> None:
    """`python -m relay.serve.supervisor.audit.export.exporter STATE WHERE SIZE KEPT DESCRIPTOR`."""
    state, where, size, kept, descriptor = Path(arguments[0]), arguments[1], *map(int, arguments[2:5])
    os.nice(_NICE)
    os.set_blocking(descriptor, False)
    ended = _ends_with(sys.stdin.fileno())

    def tell(note: ExportProgress) -> None:
        with contextlib.suppress(OSError):  # the supervisor is gone, or does not listen now: the next one says it all
            os.write(descriptor, json.dumps([note.seq, note.head, note.problem]).encode() + b"\n")

    with (state / _LOCK).open("a") as lock:
        while True:  # that of the supervisor before sends its last rows
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if ended(_QUICKEST):
                    return
        while True:
            try:
                place = outlet(where, size, kept, state)
                break
            except OSError as error:
                tell(ExportProgress(0, 0, f"{where}: {error.strerror}"))
                if ended(_RETRY_SECONDS):
                    return
        with AuditReader(state / FILE) as reader:
            serve(Exporter(state, FullLog(reader, ArchiveReader(state)), place, tell), ended)


def _ends_with(descriptor: int) -> Callable[[float], bool]:
    """Waits so many seconds; True as soon as the other end of the descriptor is closed."""

    def ended(seconds: float) -> bool:
        readable = select.select((descriptor,), (), (), seconds)[0]
        return bool(readable) and os.read(descriptor, 64) == b""

    return ended


if __name__ == "__main__":
    main(sys.argv[1:])

"""Rows of the audit log as they are written, without a read transaction while waiting."""

from collections.abc import Callable, Iterator
from pathlib import Path

from relay.core.audit.audit_query import AuditQuery
from relay.core.audit.hash_chain import Row
from relay.review import resume_file
from relay.review.resume_file import ResumePoint
from relay.review.row_source import RowSource

QUICKEST = 0.05  # seconds between two queries while rows come
SLOWEST = 0.5  # and while none come; a query costs about 30 us
SAVE_SECONDS = 1.0  # between two writes of the resume file: at most the rows of this time are printed twice


def newest(rows: RowSource, question: AuditQuery, limit: int) -> list[Row]:
    """The newest `limit` rows that answer `question`, newest last."""
    return rows.search(question, None, limit)[::-1] if limit > 0 else []


def follow(rows: RowSource, question: AuditQuery, seq: int, wait: Callable[[float], object]) -> Iterator[Row]:
    """Every row behind row `seq` that answers `question`, for ever; `wait(seconds)` is called between two looks."""
    pause = QUICKEST
    while True:
        page = rows.after(seq)
        for row in page:
            seq = row.seq
            if question.matches(row):
                yield row
        if page:
            pause = QUICKEST
            continue
        if rows.head() < seq:
            seq = 0  # another database was put in its place (a restored backup): begin with its first row
            continue
        wait(pause)
        pause = min(pause * 2, SLOWEST)


def resume(
    rows: RowSource,
    path: Path,
    output: Callable[[list[Row]], object],
    *,
    wait: Callable[[float], object],
    clock: Callable[[], float],
    report: Callable[[str], object],
) -> None:
    """Print every row after the one that the file `path` names, for ever, each at least once and in order.

    `output` prints rows and makes them durable where it can; only then the file moves on. `report` takes a line about
    rows that retention discarded before they were printed. Raises RelayError for another log or an unusable file.
    """
    point = saved = resume_file.load(path)
    deadline = clock()
    pause = QUICKEST
    while True:
        missing = resume_file.discarded(rows, path, point)
        if missing:
            report(f"rows {point.seq + 1} to {point.seq + missing} were discarded before they were printed")
        page = rows.after(point.seq)
        if page:
            output(page)
            point = ResumePoint(page[-1].seq, page[-1].hash)
            pause = QUICKEST
        if point != saved and (not page or clock() >= deadline):
            resume_file.save(path, point)
            saved, deadline = point, clock() + SAVE_SECONDS
        if not page:
            wait(pause)
            pause = min(pause * 2, SLOWEST)

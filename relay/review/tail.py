"""What is happening now? Rows as they are written, without ever holding a read transaction while waiting."""

from collections.abc import Callable, Iterator

from relay.core.audit.audit_query import AuditQuery
from relay.core.audit.hash_chain import Row
from relay.review.row_source import RowSource

QUICKEST = 0.05  # seconds between two looks while something happens
SLOWEST = 0.5  # and when nothing does: a look costs about 30 us


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

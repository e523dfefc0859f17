"""Search: matching rows, with the opening and the closing row of a forward joined into one result."""

from dataclasses import dataclass
from typing import Any

from relay.core.audit.audit_query import ALLOWED, AuditQuery
from relay.core.audit.event import Value
from relay.core.audit.hash_chain import Row
from relay.review.row_source import RowSource


@dataclass(frozen=True, slots=True)
class SearchResult:
    """One event, or one forward from its opening to its end."""

    rows: tuple[Row, ...]  # in the order they were written; a forward's opening and, when it has ended, its closing

    @property
    def first(self) -> Row:
        """The first row."""
        return self.rows[0]

    @property
    def last(self) -> Row:
        """The newest row."""
        return self.rows[-1]

    @property
    def fields(self) -> dict[str, Value]:
        """The fields of all its rows together; a later row wins."""
        fields: dict[str, Value] = {}
        for row in self.rows:
            fields.update((key, value) for key, value in row.event.fields.items() if value is not None)
        return fields

    @property
    def time(self) -> int:
        """When it began, UTC microseconds."""
        return self.first.event.time

    @property
    def id(self) -> str:
        """The id to ask `audit show` for."""
        event = self.first.event
        key = {
            "forward.opened": "forward",
            "forward.closed": "forward",
            "login.succeeded": "connection",
            "connection.closed": "connection",
        }.get(event.name, "")
        return str(event.fields.get(key) or event.id)

    @property
    def outcome(self) -> str:
        """The outcome: `open`, the reason of the end or of the denial, or the event's name."""
        name, reason = self.last.event.name, self.last.event.fields.get("reason")
        if name == "forward.opened":
            return "open"
        if name == "forward.closed":
            return str(reason or "closed")
        if name == "forward.denied":
            return f"denied: {reason}" if reason else "denied"
        if name == "request.refused":
            return "refused"
        return name

    def as_json(self) -> dict[str, Any]:
        """One line of `--json`: flat, with the numbers and hashes of the rows."""
        shown: dict[str, Any] = {
            "id": self.id,
            "time": self.time,
            "event": self.last.event.name,
            "node": self.first.node,
            "rows": [row.seq for row in self.rows],
            "hashes": [row.hash for row in self.rows],
        }
        if len(self.rows) > 1:
            shown["ended"] = self.last.event.time
        return shown | self.fields


def search_log(rows: RowSource, question: AuditQuery, limit: int) -> list[SearchResult]:
    """The newest `limit` results that match `question`, by the time of their first row, newest last.

    A result matches when one of its rows does: a forward opened last week that ended today is found by `--since today`.
    """
    found: dict[int, SearchResult] = {}
    seen: set[str] = set()
    before: int | None = None
    page = max(min(limit, 1000), 50)
    while len(found) < limit:
        answers = rows.search(question, before, page)
        ids = {id for row in answers if (id := _forward(row)) is not None and id not in seen}
        forwards = rows.by_forwards(ids)
        for row in answers:
            if len(found) >= limit:
                break
            id = _forward(row)
            if id is None:
                found[row.seq] = SearchResult((row,))
            elif id not in seen:
                seen.add(id)
                entry = SearchResult(tuple(forwards.get(id) or (row,)))
                found[entry.first.seq] = entry
        if len(answers) < page:
            break
        before = answers[-1].seq
    return [found[seq] for seq in sorted(found)]


def _forward(row: Row) -> str | None:
    """The id of the forward whose opening or closing row this is; None for any other."""
    forward = row.event.fields.get("forward")
    return forward if row.event.name in ALLOWED and isinstance(forward, str) else None

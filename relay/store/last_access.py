"""Last access of each person, key and client to each target, grouped by SQL."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from relay.core.audit.event import Value
from relay.errors import StoreUnavailable

_SLICE = 100_000  # rows of one statement, about 0.1 s: longer ones would keep the writer's log from being folded in
_STATEMENT = """SELECT w.text, t.text, g.last, iif(g.refused, g.rows, 0) FROM (
    SELECT who, target, name = (SELECT id FROM names WHERE name = 'forward.denied') AS refused,
    max(time) AS last, count(*) AS rows FROM events WHERE seq > ? AND seq <= ? AND who IS NOT NULL
    GROUP BY who, target, refused) g JOIN who w ON w.id = g.who LEFT JOIN target t ON t.id = g.target"""


@dataclass(frozen=True, slots=True)
class LastAccess:
    """The last access of one person, key and client to one target (or to none)."""

    fields: dict[str, Value]
    last: int  # UTC microseconds
    denied: int  # how many forwards of these were denied; 0: these were allowed, or no forwards


def habits(ask: Callable[..., list[Any]], base: int, until: int) -> Iterator[LastAccess]:
    """The habits in rows `base` (exclusive) to `until`; one may come again. `ask` answers a statement."""
    for start in range(base, until, _SLICE):
        for who, target, last, denied in ask(_STATEMENT, start, min(start + _SLICE, until)):
            try:
                yield LastAccess({**json.loads(who), **json.loads(target or "{}")}, int(last), int(denied))
            except (ValueError, TypeError) as error:
                raise StoreUnavailable(
                    f"a dictionary of the audit database is damaged: {error}",
                    "relayctl restore FILE brings a backup back",
                ) from error

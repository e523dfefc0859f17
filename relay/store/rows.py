"""How does a row of the database read again: as a value, or as the text that its hash covers?

`row_of` makes the value, one row at a time. `Lines` makes the canonical texts of a million rows (core.chain.canonical):
the JSON of each dictionary entry is taken apart once, and the parts are put together in the order of their keys.
"""

import json
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from relay.core.chain import GENESIS, Row, compact
from relay.core.event import Event
from relay.errors import RowDamaged
from relay.store import dictionary

PLACED = "e.connection, e.forward, e.client_port, e.sent, e.received, e.duration"
BASE = "(SELECT value FROM meta WHERE key = 'base_hash')"  # the hash of the last row that was archived away
ROW = f"""SELECT e.seq, e.id, e.time, n.name, m.name, e.schema, w.text, t.text, {PLACED},
    iif(typeof(e.rest) = 'integer', r.text, e.rest), e.hash,
    coalesce((SELECT p.hash FROM events p WHERE p.seq = e.seq - 1), iif(e.seq = 1, NULL, {BASE}))
    FROM events e LEFT JOIN nodes n ON n.id = e.node LEFT JOIN names m ON m.id = e.name
    LEFT JOIN who w ON w.id = e.who LEFT JOIN target t ON t.id = e.target LEFT JOIN rests r ON r.id = e.rest"""  # noqa: S608 - parts of our own
LINE = f"SELECT e.seq, e.id, e.time, e.node, e.name, e.schema, e.who, e.target, {PLACED}, e.rest, e.hash FROM events e"  # noqa: S608 - likewise

_ENTRIES = 100_000  # of dictionaries kept at once, about 2 kB each at the most


def base_of(database: sqlite3.Connection) -> tuple[int, str]:
    """Number and hash of the last row that was archived away: (0, GENESIS) when none was."""
    found = dict(database.execute("SELECT key, value FROM meta WHERE key IN ('base_seq', 'base_hash')").fetchall())
    return (int(found["base_seq"]), found["base_hash"].hex()) if len(found) == 2 else (0, GENESIS)


def damaged(seq: int, error: Exception) -> RowDamaged:
    """A row that cannot be put together again."""
    return RowDamaged(
        seq, f"row {seq} of the audit database is damaged: {error}", "relayctl restore FILE brings a backup back"
    )


def row_of(columns: Sequence[Any]) -> Row:
    """A row as ROW selects it. Raises RowDamaged for one that cannot be put together again."""
    seq, id, time, node, name, schema, who, target, *placed, rest, digest, prev = columns
    try:
        event_id = dictionary.told(id)
        if rest is None:
            raise ValueError("a text of it is missing")
        fields = dictionary.joined((who, target, rest), event_id, placed)
        return Row(
            node=str(node),
            seq=seq,
            prev=prev.hex() if prev is not None else GENESIS,
            hash=digest.hex(),
            event=Event(event_id, time, str(name), fields),
            schema=schema,
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise damaged(seq, error) from error


class Line(NamedTuple):
    """A row as a verifier needs it; `text` is what its hash covers."""

    seq: int
    time: int
    name: str
    id: str
    forward: str | None
    hash: str
    text: str


class Lines:
    """Makes lines of rows as LINE selects them. `ask(statement, *values)` reads the dictionaries."""

    def __init__(self, ask: Callable[..., list[Any]]) -> None:
        self._ask = ask
        self._words: dict[tuple[str, int], str] = {}
        self._parts: dict[tuple[str, int], dict[str, str]] = {}
        self._orders: dict[tuple[str, ...], tuple[str, ...]] = {}

    def line(self, columns: Sequence[Any]) -> Line:
        """Raises RowDamaged for one that cannot be put together again."""
        (
            seq,
            id,
            time,
            node,
            name,
            schema,
            who,
            target,
            connection,
            forward,
            port,
            sent,
            received,
            took,
            rest,
            digest,
        ) = columns
        try:
            event_id = dictionary.told(id)
            if forward is not None:
                forward = event_id if forward == dictionary.SAME else dictionary.told(forward)
            word = self._word("names", name)
            fields = dict(self._part("who", who)) if who is not None else {}
            if target is not None:
                fields |= self._part("target", target)
            fields |= self._part("rests", rest) if isinstance(rest, int) else _part(rest)
            if connection is not None:
                fields["connection"] = f'"connection":{_quoted(dictionary.told(connection))}'
            if forward is not None:
                fields["forward"] = f'"forward":{_quoted(forward)}'
            for key, value in (("client_port", port), ("sent", sent), ("received", received), ("duration", took)):
                if value is not None:
                    fields[key] = f'"{key}":{value:d}'
            keys = tuple(fields)
            order = self._orders.get(keys)
            if order is None:
                order = self._orders[keys] = tuple(sorted(keys))
            text = (
                f'{{"fields":{{{",".join([fields[key] for key in order])}}},"id":{_quoted(event_id)},'
                f'"name":{_quoted(word)},"node":{_quoted(self._word("nodes", node))},"schema":{schema:d},'
                f'"seq":{seq:d},"time":{time:d}}}'
            )
            return Line(seq, time, word, event_id, forward, digest.hex(), text)
        except (ValueError, TypeError, AttributeError) as error:
            raise damaged(seq, error) from error

    def _word(self, table: str, number: int) -> str:
        known = self._words.get((table, number))
        if known is None:
            known = self._words[table, number] = self._found(table, "name", number)
        return known

    def _part(self, table: str, number: int) -> dict[str, str]:
        known = self._parts.get((table, number))
        if known is None:
            if len(self._parts) >= _ENTRIES:
                self._parts.clear()
            known = self._parts[table, number] = _part(self._found(table, "text", number))
        return known

    def _found(self, table: str, column: str, number: int) -> str:
        found = self._ask(f"SELECT {column} FROM {table} WHERE id = ?", number)  # noqa: S608 - our own tables
        if not found:
            raise ValueError(f"entry {number} of {table} is missing")
        return str(found[0][0])


def _part(text: str) -> dict[str, str]:
    """The fields of a JSON object, each as it stands in a canonical text."""
    loaded = json.loads(text)
    if not isinstance(loaded, dict):
        raise ValueError(text[:40])
    return {key: compact({key: value})[1:-1] for key, value in loaded.items()}


def _quoted(text: str) -> str:
    """A text as JSON; ids and names need no escaping."""
    return f'"{text}"' if text.isalnum() and text.isascii() else json.dumps(text, ensure_ascii=False)

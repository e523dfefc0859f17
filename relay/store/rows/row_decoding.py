"""Rows of the database as values, and as the texts that their hashes cover.

`row_of` makes the value, one row at a time. `Lines` makes the canonical texts of a million rows
(core.audit.hash_chain.canonical):
the JSON of each dictionary entry is parsed once, and the common text of rows of one shape is built once.
"""

import json
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from relay.core.audit.event import Event
from relay.core.audit.hash_chain import GENESIS, Row, compact
from relay.errors import RowDamaged
from relay.store.rows import row_encoding

PLACED = "e.connection, e.forward, e.client_port, e.sent, e.received, e.duration"
BASE = "(SELECT value FROM meta WHERE key = 'base_hash')"  # the hash of the last row that was archived away
ROW = f"""SELECT e.seq, e.id, e.time, n.name, m.name, e.schema, w.text, t.text, {PLACED},
    iif(typeof(e.rest) = 'integer', r.text, e.rest), e.hash,
    coalesce((SELECT p.hash FROM events p WHERE p.seq = e.seq - 1), iif(e.seq = 1, NULL, {BASE}))
    FROM events e LEFT JOIN nodes n ON n.id = e.node LEFT JOIN names m ON m.id = e.name
    LEFT JOIN who w ON w.id = e.who LEFT JOIN target t ON t.id = e.target LEFT JOIN rests r ON r.id = e.rest"""  # noqa: S608 - parts of our own
LINE = f"SELECT e.seq, e.id, e.time, e.node, e.name, e.schema, e.who, e.target, {PLACED}, e.rest, e.hash FROM events e"  # noqa: S608 - likewise

_WHO, _TARGET = frozenset(row_encoding.WHO), frozenset(row_encoding.TARGET)
_ELSEWHERE = _WHO | _TARGET
_COLUMNS = frozenset((*row_encoding.IDS, *row_encoding.NUMBERS))
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
        event_id = row_encoding.told(id)
        if rest is None:
            raise ValueError("a text of it is missing")
        fields = row_encoding.joined((who, target, rest), event_id, placed)
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


# the fields that have columns of their own, in the order of their names; and the time of a row
_PLACES = {
    **{"client_port": int, "connection": str, "duration": int, "forward": str, "received": int, "sent": int},
    "time": int,
}
# node, name, schema, who, target, rest, and the types of what is in _PLACES
_Shape = tuple[int, int, int, int | None, int | None, int, tuple[type, ...]]


class VerifierRow(NamedTuple):
    """A row as a verifier needs it; `text` is what its hash covers."""

    seq: int
    time: int
    name: str
    id: str
    forward: str | None
    hash: str
    text: str


class RowDecoder:
    """Makes lines of rows as LINE selects them. `ask(statement, *values)` reads the dictionaries."""

    def __init__(self, ask: Callable[..., list[Any]]) -> None:
        self._ask = ask
        self._words: dict[tuple[str, int], str] = {}
        self._parts: dict[tuple[str, int], dict[str, str]] = {}
        self._templates: dict[_Shape, str] = {}
        self._columns: dict[tuple[type, ...], dict[str, str]] = {}
        self._orders: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._ends: dict[tuple[int, int, int], str] = {}

    def line(self, columns: Sequence[Any]) -> VerifierRow:
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
            event_id = row_encoding.told(id)
            if forward is not None:
                forward = event_id if forward == row_encoding.SAME else _another(row_encoding.told(forward), event_id)
            values = (
                port,
                None if connection is None else _quoted(row_encoding.told(connection)),
                took,
                None if forward is None else _quoted(forward),
                received,
                sent,
                time,
            )
            has = tuple(map(type, values))
            if isinstance(rest, int):
                shape = node, name, schema, who, target, rest, has
                template = self._templates.get(shape)
                if template is None:
                    if len(self._templates) >= _ENTRIES:
                        self._templates.clear()
                    template = self._templates[shape] = self._template(shape, self._part("rests", rest))
            else:
                template = self._template((node, name, schema, who, target, 0, has), _in_place("rests", _part(rest)))
            *given, _ = [value for value in values if value is not None]
            text = template % (*given, _quoted(event_id), seq, time)
            return VerifierRow(seq, time, self._word("names", name), event_id, forward, digest.hex(), text)
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise damaged(seq, error) from error

    def _template(self, shape: _Shape, rest: dict[str, str]) -> str:
        """A %-format for all rows of this shape: its places are the columns that it has, then id, seq and time.

        It is put together from whole fields in the order of their keys: no text of a row is searched for a place.
        """
        node, name, schema, who, target, _, has = shape
        fields = dict(rest)
        if who is not None:
            fields |= self._part("who", who)
        if target is not None:
            fields |= self._part("target", target)
        columns = self._columns.get(has)
        if columns is None:
            columns = self._columns[has] = _columns_of(has)
        fields |= columns
        keys = tuple(fields)
        order = self._orders.get(keys)
        if order is None:
            order = self._orders[keys] = tuple(sorted(keys))
        end = self._ends.get((name, node, schema))
        if end is None:
            said = f'"name":{_quoted(self._word("names", name))},"node":{_quoted(self._word("nodes", node))}'
            end = f'}},"id":%s,{said.replace("%", "%%")},"schema":{schema:d},"seq":%d,"time":%d}}'
            self._ends[name, node, schema] = end
        return f'{{"fields":{{{",".join([fields[key] for key in order])}{end}'

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
            known = self._parts[table, number] = _in_place(table, _part(self._found(table, "text", number)))
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
    if compact(loaded) != text:  # a search for a text looks at it as it stands
        raise ValueError("a text is not written as it was")
    return {key: compact({key: value})[1:-1] for key, value in loaded.items()}


def _columns_of(has: tuple[type, ...]) -> dict[str, str]:
    """The fields that a row has in columns, as places of a %-format. Raises ValueError for what is no such column's."""
    fields = {}
    for (key, kind), found in zip(_PLACES.items(), has, strict=True):
        if found is not type(None) and found is not kind:  # SQLite keeps in a column what it is given
            raise ValueError(f"{key} is {found.__name__}, not {kind.__name__}")
        if found is kind and key != "time":
            fields[key] = f'"{key}":%{"d" if kind is int else "s"}'
    return fields


def _in_place(table: str, part: dict[str, str]) -> dict[str, str]:
    """The part as it goes into a %-format. Raises ValueError for a field that belongs elsewhere.

    In another place it makes the same text, and hides the row from searches, which look in its own.
    """
    keys = part.keys()
    if not (keys <= _WHO if table == "who" else keys <= _TARGET if table == "target" else keys.isdisjoint(_ELSEWHERE)):
        raise ValueError("a field is not in its place")
    if any(row_encoding.has_column(key, json.loads(f"{{{part[key]}}}")[key]) for key in keys & _COLUMNS):
        raise ValueError("a field is not in its column")
    return {key: text.replace("%", "%%") for key, text in part.items()}


def _another(forward: str, event_id: str) -> str:
    if forward == event_id:
        raise ValueError("its forward is its own id, and is not kept so")
    return forward


def _quoted(text: str) -> str:
    """A text as JSON; ids and names need no escaping."""
    return f'"{text}"' if text.isalnum() and text.isascii() else json.dumps(text, ensure_ascii=False)

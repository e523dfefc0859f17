"""How does a row of the database read again: as a value, or as the text that its hash covers?

`row_of` makes the value, one row at a time. `Lines` makes the canonical texts of a million rows (core.chain.canonical):
the JSON of each dictionary entry is taken apart once, and rows that differ in numbers and ids only share a template.
"""

import json
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from relay.core.chain import GENESIS, Row, canonical
from relay.core.event import Event, Value
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

_TEMPLATES = 65_536  # kept at once, about 1 kB each; 200 people on 300 targets fit


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
        self._texts: dict[tuple[str, int], str] = {}
        self._templates: dict[tuple[object, ...], str] = {}

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
            same = forward == dictionary.SAME
            if forward is not None:
                forward = event_id if same else dictionary.told(forward)
            if connection is not None:
                connection = dictionary.told(connection)
            hash, word = digest.hex(), self._text("names", name)
            if (
                type(rest) is int
                and type(id) is bytes
                and (forward is None or len(forward) == 11)
                and (connection is None or len(connection) == 11)
            ):
                shape = (
                    *(node, name, schema, who, target, rest),
                    *(connection is None, forward is None, port is None, sent is None, received is None, took is None),
                )
                template = self._templates.get(shape)
                if template is None:
                    template = self._template(shape)
                if template:
                    return Line(
                        *(seq, time, word, event_id, forward, hash),
                        template
                        % {
                            "seq": seq,
                            "time": time,
                            "id": event_id,
                            "connection": connection,
                            "forward": forward,
                            "client_port": port,
                            "sent": sent,
                            "received": received,
                            "duration": took,
                        },
                    )
            texts = self._parts(who, target, rest)
            placed = (connection, dictionary.SAME if same else forward, port, sent, received, took)
            event = Event(event_id, time, word, dictionary.joined(texts, event_id, placed))
            text = canonical(self._text("nodes", node), seq, event, schema)
            return Line(seq, time, word, event_id, forward, hash, text)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise damaged(seq, error) from error

    def _parts(self, who: int | None, target: int | None, rest: int | str) -> tuple[str | None, str | None, str]:
        return (
            None if who is None else self._text("who", who),
            None if target is None else self._text("target", target),
            self._text("rests", rest) if isinstance(rest, int) else rest,
        )

    def _text(self, table: str, number: int) -> str:
        known = self._texts.get((table, number))
        if known is None:
            column = "name" if table in ("nodes", "names") else "text"
            found = self._ask(f"SELECT {column} FROM {table} WHERE id = ?", number)  # noqa: S608 - our own tables
            if not found:
                raise ValueError(f"entry {number} of {table} is missing")
            known = self._texts[table, number] = str(found[0][0])
        return known

    def _template(self, shape: tuple[Any, ...]) -> str:
        """A %-format of all rows of this shape; "" where one cannot be made."""
        node, name, schema, who, target, rest, *absent = shape
        fields: dict[str, Value] = dictionary.joined(self._parts(who, target, rest), "", (None,) * 6)
        places = [
            key for key, is_absent in zip((*dictionary.IDS, *dictionary.NUMBERS), absent, strict=True) if not is_absent
        ]
        holes = {key: f"\0{key}\0" for key in places}
        clash = fields.keys() & holes.keys()
        text = canonical(
            self._text("nodes", node), 0, Event("\0id\0", 0, self._text("names", name), {**fields, **holes}), schema
        )
        text = text.replace("%", "%%")
        for key in ("id", *places):
            hole = json.dumps(f"\0{key}\0")
            if text.count(hole) != 1:  # somebody's text looks like it
                clash |= {key}
            text = text.replace(hole, f'"%({key})s"' if key in ("id", *dictionary.IDS) else f"%({key})d")
        ending = f',"schema":{schema},"seq":0,"time":0}}'
        if clash or not text.endswith(ending):
            text = ""
        else:
            text = text.removesuffix(ending) + f',"schema":{schema},"seq":%(seq)d,"time":%(time)d}}'
        if len(self._templates) >= _TEMPLATES:
            self._templates.clear()
        self._templates[shape] = text
        return text

"""Candidate rows for a query, newest first.

`candidates` may give too many rows, never too few: `AuditQuery.matches` decides. People, clients and targets are found
through their dictionaries, rare events, texts and ids through indexes of their own. SQLite keeps no
statistics, so this module counts the rows of each index and uses the smallest.

The log is searched from its end in windows of growing size: a common match is in the first window, and a match from a
year ago takes about five statements.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from relay.core import ids
from relay.core.audit.audit_query import AuditQuery, full_fingerprint, lowered
from relay.store.rows import time_index
from relay.store.rows.row_encoding import network_keys

Ask = Callable[..., list[Any]]

WINDOW = 20_000  # rows of the first window; each is four times as large as the one before
_COUNTED = 300_000  # rows of one index that are counted to compare it with others: 10 ms
# looking a row up costs as much as ten steps in an index (2.5 us to 0.25)
_LOOKUP = 10
_READ = 50_000  # rows that may be read for a text that they may have; above, the indexes of all texts are asked
_MASS = (1, 2)  # forward.opened and forward.closed, which are in no index of names (see migrations.py)
_ROWS = "e.seq BETWEEN :bottom AND :top"
_AMONG = "IN (SELECT value FROM json_each({}))"


@dataclass(frozen=True, slots=True)
class _Set:
    """Rows whose `column` is one of `numbers`, with the index that finds them."""

    column: str
    index: str
    numbers: str  # as JSON
    more: str = ""  # that the index asks for

    @property
    def key(self) -> str:
        """The name of its numbers among a statement's values."""
        return f":{self.column}s"

    def term(self, alias: str = "e.") -> str:
        """SQL condition on one row."""
        return f"{alias}{self.column} {_AMONG.format(self.key)}{self.more.format(alias)}"

    def rows(self) -> str:
        """SQL for the numbers of the matching rows from :bottom to :top, answered by the index alone."""
        return f"SELECT seq FROM events INDEXED BY {self.index} WHERE {self.term('')} AND seq BETWEEN :bottom AND :top"  # noqa: S608 - our own words


def candidates(ask: Ask, question: AuditQuery, before: int | None, size: int) -> Iterator[list[int]]:
    """Numbers of rows that may answer, newest first and all before row `before`, up to `size` at once.

    `ask(statement, values)` gives the whole answer of one statement.
    """
    bottom, top = _span(ask, question, before)
    sets = _sets(ask, question)
    if any(one.numbers == "[]" for one in sets):
        return
    values: dict[str, object] = {one.key[1:]: one.numbers for one in sets}
    terms, more = _terms(ask, question)
    values |= more
    choice = len(sets) > 1 or question.text
    counts = _counts(ask, sets, values, bottom, top) if choice else dict.fromkeys((one.column for one in sets), 0)
    lead = min(sets, key=lambda one: counts[one.column], default=None)
    if question.text:
        text, more = _text(ask, question.text)
        values |= more
        if lead is not None and counts[lead.column] <= _READ:
            terms.append(text.term())
        else:
            terms += [one.term() for one in sets]
            sets, lead = [], None
            statement = f"SELECT e.seq FROM ({text.rows()}) c CROSS JOIN events e ON e.seq = c.seq"  # noqa: S608 - our own words
    if lead is not None:
        for one in sets:
            if one is not lead:
                by_index = counts[one.column] < _LOOKUP * counts[lead.column]
                terms.append(f"e.seq IN ({one.rows()})" if by_index else one.term())
        statement = f"SELECT e.seq FROM events e INDEXED BY {lead.index}"  # noqa: S608 - likewise
        terms = [lead.term(), *terms]
    elif not question.text:
        statement = "SELECT e.seq FROM events e"
    where = " AND ".join([_ROWS, *terms])
    statement = f"{statement} WHERE {where} ORDER BY e.seq DESC LIMIT :size"
    width = WINDOW
    while top >= bottom:
        edge = max(top - width + 1, bottom)
        found = [seq for (seq,) in ask(statement, {**values, "bottom": edge, "top": top, "size": size})]
        if found:
            yield found
        if len(found) == size:
            top = found[-1] - 1
        else:
            top, width = edge - 1, width * 4


def _span(ask: Ask, question: AuditQuery, before: int | None) -> tuple[int, int]:
    """The first and the last row that may answer by its number; none when the first is behind the last."""
    bottom, top = time_index.span(ask, question.since, question.until)
    return bottom, top if before is None else min(top, before - 1)


def _sets(ask: Ask, question: AuditQuery) -> list[_Set]:
    """The conditions of the query that an index covers."""
    found = []
    for column, (terms, values) in (("who", _who(question)), ("target", _target(question))):
        if terms:
            numbers = _numbers(ask, f"SELECT id FROM {column} WHERE {' AND '.join(terms)}", values)  # noqa: S608 - our own words
            found.append(_Set(column, f"events_{column}", json.dumps(numbers)))
    names = _names(ask, question)
    if names is not None and not set(names) & set(_MASS):
        found.append(_Set("name", "events_name", json.dumps(names), " AND {}name > 2"))
    return found


def _names(ask: Ask, question: AuditQuery) -> list[int] | None:
    """The numbers of the names that may answer; None: any."""
    if not question.name and not question.verdict:
        return None
    return [int(number) for number, name in ask("SELECT id, name FROM names", ()) if question.has_name(name)]


def _terms(ask: Ask, question: AuditQuery) -> tuple[list[str], dict[str, object]]:
    """SQL for the conditions that no index covers, and its values."""
    terms, values = [], dict[str, object]()
    for key, time, comparison in (("since", question.since, ">="), ("until", question.until, "<")):
        if time is not None:
            terms.append(f"e.time {comparison} :{key}")
            values[key] = time_index.clamped(time)
    names = _names(ask, question)
    if names is not None and set(names) & set(_MASS):
        terms.append(f"e.name {_AMONG.format(':names')}")
        values["names"] = json.dumps(names)
    return terms, values


def _counts(ask: Ask, sets: list[_Set], values: dict[str, object], bottom: int, top: int) -> dict[str, int]:
    """For each searched column: how many rows between `bottom` and `top` match, counted up to _COUNTED."""
    return {
        one.column: ask(
            f"SELECT count(*) FROM ({one.rows()} LIMIT {_COUNTED})",  # noqa: S608 - our own words
            {one.key[1:]: values[one.key[1:]], "bottom": bottom, "top": top},
        )[0][0]
        for one in sets
    }


def _who(question: AuditQuery) -> tuple[list[str], list[object]]:
    terms: list[str] = []
    values: list[object] = []
    if question.person:
        terms.append("person = ?")
        values.append(question.person)
    if question.fingerprint:
        prefix = full_fingerprint(question.fingerprint)
        terms.append("fingerprint >= ? AND fingerprint < ?")
        values += [prefix, prefix + "\U0010ffff"]
    if question.client is not None:
        terms.append("client BETWEEN ? AND ?")
        values += network_keys(question.client)
    return terms, values


def _target(question: AuditQuery) -> tuple[list[str], list[object]]:
    terms: list[str] = []
    values: list[object] = []
    if question.address is not None:
        family = bytes([question.address.version])
        terms.append("(address = ? OR host = ?)")
        values += [family + question.address.packed, str(question.address)]
    elif question.host:
        terms.append("host = ?")
        values.append(question.host.lower())
    if question.port is not None:
        terms.append("(port = ? OR port IS NULL)")
        values.append(question.port)
    if question.to is not None:
        terms.append("address BETWEEN ? AND ?")
        values += network_keys(question.to)
    return terms, values


def _numbers(ask: Ask, statement: str, values: object) -> list[int]:
    return [int(number) for (number,) in ask(statement, values)]


# ---- texts


@dataclass(frozen=True, slots=True)
class _Text:
    """Where a text may stand: `terms` of the row, and statements for rows within a window that the indexes find."""

    terms: tuple[str, ...]
    finds: tuple[str, ...]

    def term(self) -> str:
        """SQL condition on one row."""
        return f"({' OR '.join(self.terms)})"

    def rows(self) -> str:
        """SQL for the numbers of the rows within a window."""
        return " UNION ".join(f"{find} AND seq BETWEEN :bottom AND :top" for find in self.finds)


def _text(ask: Ask, text: str) -> tuple[_Text, dict[str, object]]:
    """Where `text` may stand, and the values for it."""
    like = _like(text)
    values: dict[str, object] = {"like": like, "begins": like[1:]}
    terms = ["(typeof(e.rest) = 'text' AND e.rest LIKE :like ESCAPE '!')"]
    every = json.dumps(_numbers(ask, "SELECT id FROM names", ()))
    values["every"] = every
    finds = [
        f"""SELECT seq FROM events INDEXED BY events_own WHERE name {_AMONG.format(":every")}
        AND typeof(rest) = 'text' AND rest LIKE :like ESCAPE '!'"""  # noqa: S608 - our own words
    ]
    for column, table, said in (
        ("who", "who", "text"),
        ("target", "target", "text"),
        ("rest", "rests", "text"),
        ("name", "names", "name"),
    ):
        numbers = _numbers(ask, f"SELECT id FROM {table} WHERE {said} LIKE ? ESCAPE '!'", (like,))  # noqa: S608 - likewise
        if not numbers:
            continue
        key = f"text_{column}"
        values[key] = json.dumps(numbers)
        index, more = f"events_{column}", {"rest": " AND typeof({}rest) = 'integer'"}.get(column, "")
        terms.append(f"(e.{column} {_AMONG.format(f':{key}')}{more.format('e.')})")
        if column == "name" and set(numbers) & set(_MASS):
            finds.append(f"SELECT seq FROM events NOT INDEXED WHERE name {_AMONG.format(f':{key}')}")  # noqa: S608 - likewise
            continue
        if column == "name":
            more = " AND name > 2"
        finds.append(
            f"SELECT seq FROM events INDEXED BY {index} WHERE {column} {_AMONG.format(f':{key}')}{more.format('')}"  # noqa: S608 - likewise
        )
    for term, find, given in _ids(text, _straying(ask)):
        terms.append(term)
        finds.append(find)
        values |= given
    return _Text(tuple(terms), tuple(finds)), values


def _straying(ask: Ask) -> int:
    """The last row that may be the end of a forward whose opening was archived; 0: nothing was archived.

    Such a forward had ended when its opening was archived, and the row that says so was written then.
    """
    statement = """SELECT iif(EXISTS (SELECT 1 FROM meta WHERE key = 'base_seq'), coalesce((SELECT max(seq) FROM events
        WHERE name = (SELECT id FROM names WHERE name = 'audit.archived') AND name > 2), 1 << 62), 0)"""
    return int(ask(statement, ())[0][0])


def _ids(text: str, straying: int) -> Iterator[tuple[str, str, dict[str, object]]]:
    """Ids of an event, connection or forward are found by their beginning; those that are none of ours too.

    A closing row is in no index of connections: it is found by the forward of its opening row; where that may have been
    archived (up to row `straying`) the rows themselves are looked at.
    """
    span = ids.beginning(lowered(text))
    packed: dict[str, object] = {} if span is None else {"least": span[0], "greatest": span[1]}
    indexes = (("id", "events_id", ""), ("connection", "events_connection", " AND name <> 2"))
    for column, index, more in (*indexes, ("forward", "events_forward", " AND forward <> 1")):
        odd = "({0} >= '' AND {0} < x'' AND {0} LIKE :begins ESCAPE '!')"  # texts sort behind numbers, before blobs
        terms = [odd, "{0} BETWEEN :least AND :greatest"] if packed else [odd]
        for term in terms:
            of_index = f"SELECT seq FROM events INDEXED BY {index} WHERE {term.format(column)}{more}"  # noqa: S608 - likewise
            yield term.format(f"e.{column}"), of_index, packed
            if column == "connection":
                opened = f"""SELECT iif(forward = 1, id, forward) FROM events INDEXED BY events_connection
                    WHERE {term.format(column)} AND name <> 2 AND name = 1"""  # noqa: S608 - likewise
                closed = (
                    f"SELECT seq FROM events INDEXED BY events_forward WHERE forward IN ({opened}) AND forward <> 1"  # noqa: S608 - likewise
                )
                yield term.format(f"e.{column}"), closed, packed
                if straying and term is not odd:  # an id of ours: it takes a tenth of a second a million rows
                    looked = f"SELECT seq FROM events NOT INDEXED WHERE name = 2 AND {term.format(column)}"  # noqa: S608 - likewise
                    yield term.format(f"e.{column}"), f"{looked} AND seq <= {straying:d}", packed


def _like(text: str) -> str:
    """A LIKE pattern for `text` inside JSON (and, where nothing needs escaping, inside plain text)."""
    inside = json.dumps(text, ensure_ascii=False)[1:-1]
    for special in "!%_":
        inside = inside.replace(special, "!" + special)
    return f"%{inside}%"

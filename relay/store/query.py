"""Which rows must the database look at to answer a question?

The condition may let too many rows through, never too few: `Question.matches` decides. It is made so that an index
finds the rows: people, clients and targets through their dictionaries, rare events by their own index.
"""

import json

from relay.core import ids
from relay.core.event import NAMES
from relay.core.question import Question, full_fingerprint, lowered
from relay.store import hours
from relay.store.dictionary import network_keys

# the two names that come in masses are no use as an index (see migrations.py)
_MASS = ("forward.opened", "forward.closed")


def condition(question: Question) -> tuple[str, list[object]]:
    """SQL for WHERE over `events e`, and its values."""
    terms: list[str] = []
    values: list[object] = []

    def term(sql: str, *given: object) -> None:
        terms.append(sql)
        values.extend(given)

    who, whose = _who(question)
    if who:
        term(f"e.who IN (SELECT id FROM who WHERE {' AND '.join(who)})", *whose)  # noqa: S608 - terms of our own
    target, which = _target(question)
    if target:
        term(f"e.target IN (SELECT id FROM target WHERE {' AND '.join(target)})", *which)  # noqa: S608 - likewise
    if question.since is not None:
        least, values_ = hours.since(question.since)
        term(f"e.seq >= {least} AND e.time >= ?", *values_, _clamped(question.since))
    if question.until is not None:
        most, values_ = hours.until(question.until)
        term(f"e.seq <= {most} AND e.time < ?", *values_, _clamped(question.until))
    names = question.names()
    if names:
        marks = ", ".join("?" * len(names))
        rare = "" if set(names) & set(_MASS) or not set(names) <= set(NAMES) else " AND e.name > 2"
        term(f"e.name IN (SELECT id FROM names WHERE name IN ({marks})){rare}", *names)  # noqa: S608 - marks
    if question.text:
        like = _like(question.text)
        like_ids, values_ = _ids(question.text)
        texts = """(typeof(e.rest) = 'text' AND e.rest LIKE ? ESCAPE '!')
            OR e.rest IN (SELECT id FROM rests WHERE text LIKE ? ESCAPE '!')
            OR e.who IN (SELECT id FROM who WHERE text LIKE ? ESCAPE '!')
            OR e.target IN (SELECT id FROM target WHERE text LIKE ? ESCAPE '!')
            OR e.name IN (SELECT id FROM names WHERE name LIKE ? ESCAPE '!')"""
        term(f"({texts}{like_ids})", *([like] * 5), *values_)
    return " AND ".join(terms) or "1", values


def _who(question: Question) -> tuple[list[str], list[object]]:
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


def _target(question: Question) -> tuple[list[str], list[object]]:
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


def _ids(text: str) -> tuple[str, list[object]]:
    """Ids of an event, connection or forward are found by their beginning: more terms, and their values."""
    span = ids.beginning(lowered(text))
    terms: list[str] = []
    values: list[object] = []
    for column in ("e.id", "e.connection", "e.forward"):
        terms.append(f" OR (typeof({column}) = 'text' AND {column} LIKE ? ESCAPE '!')")
        values.append(_like(text)[1:])
        if span is not None:
            terms.append(f" OR {column} BETWEEN ? AND ?")
            values += span
    return "".join(terms), values


def _like(text: str) -> str:
    """A LIKE pattern for `text` inside JSON (and, where nothing needs escaping, inside plain text)."""
    inside = json.dumps(text, ensure_ascii=False)[1:-1]
    for special in "!%_":
        inside = inside.replace(special, "!" + special)
    return f"%{inside}%"


def _clamped(time: int) -> int:
    return max(min(time, 2**62), -(2**62))

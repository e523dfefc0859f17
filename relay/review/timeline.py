"""Timeline of an id: the rows of a connection, forward or refusal, or a failed log-in."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from relay.core import ids
from relay.core.audit.hash_chain import Row
from relay.errors import InputRejected
from relay.review.row_source import Attempts, RowSource

Texts = Callable[[str], str | None]  # a file's text in the applied version, None when it is not known


@dataclass(frozen=True, slots=True)
class RuleText:
    """The rule that decided, as it stood in the policy version in force then."""

    version: str
    rule: str
    at: str  # file:line
    text: str  # "" when that version's files were not kept


@dataclass(frozen=True, slots=True)
class Timeline:
    """`rows` of one connection or of one other event, with the `chosen` ones; or counts of failed log-ins."""

    id: str
    rows: tuple[Row, ...] = ()
    chosen: tuple[int, ...] = ()  # numbers of the rows that the id itself names
    rules: tuple[RuleText, ...] = ()
    exact: Attempts | None = None  # the count whose last attempt has this reference
    minute: tuple[Attempts, ...] = ()  # else: the attempt counts of the minute in which the id was made


def build_timeline(rows: RowSource, id: str, texts: Callable[[str], Texts | None]) -> Timeline | None:
    """The timeline of `id`, as stored or as typed; None when the id is unknown.

    `texts(version)` gives the files of an applied policy version, None when they were not kept.
    """
    for spelt in dict.fromkeys((id, _canonical(id))):
        if spelt and (found := _of_rows(rows, spelt, texts)):
            return found
    reference = _canonical(id)
    if not reference:
        return None
    exact = rows.stranger(reference)
    if exact is not None:
        return Timeline(reference, exact=exact)
    at = ids.made_at(reference) // 60_000_000
    # the id is made when the attempt ends and counted when it arrives: it may fall into the next minute
    counts = rows.strangers(at, at + 1)
    return Timeline(reference, minute=tuple(counts)) if counts else None


def _canonical(id: str) -> str:
    try:
        return ids.parse(id)
    except InputRejected:
        return ""


def _of_rows(rows: RowSource, id: str, texts: Callable[[str], Texts | None]) -> Timeline | None:
    row = rows.by_id(id)
    chosen = [row] if row else []
    chosen += [other for other in rows.by_forward(id) if other not in chosen]
    rows_shown: Sequence[Row] = rows.by_connection(id)
    if not chosen and not rows_shown:
        return None
    if not rows_shown:
        connection = chosen[0].event.fields.get("connection")
        rows_shown = (rows.by_connection(connection) if isinstance(connection, str) else ()) or chosen
        if chosen[0] not in rows_shown:  # a connection with more rows than one answer holds
            rows_shown = sorted({row.seq: row for row in (*rows_shown, *chosen)}.values(), key=lambda row: row.seq)
    return Timeline(id, tuple(rows_shown), tuple(row.seq for row in chosen), _rules(chosen or rows_shown, texts))


def _rules(rows: Iterable[Row], texts: Callable[[str], Texts | None]) -> tuple[RuleText, ...]:
    found: dict[tuple[str, str, str], RuleText] = {}
    for row in rows:
        rule, at, version = (row.event.fields.get(key) for key in ("rule", "rule_at", "policy"))
        if not (isinstance(rule, str) and rule and isinstance(version, str) and version):
            continue
        place = version, rule, str(at or "")
        if place in found or len(found) >= 20:
            continue
        files = texts(version)
        file, _, number = place[2].rpartition(":")
        text = files(file) if files is not None and number.isdigit() else None
        found[place] = RuleText(*place, _excerpt(text, int(number)) if text else "")
    return tuple(found.values())


def _excerpt(text: str, number: int) -> str:
    """The rule that begins in line `number`: that line, and those that follow and are indented deeper."""
    lines = text.splitlines()
    if not 1 <= number <= len(lines):
        return ""
    first = lines[number - 1]
    depth = len(first) - len(first.lstrip())
    excerpt = [first]
    for line in lines[number : number + 30]:
        if not line.strip() or len(line) - len(line.lstrip()) <= depth:
            break
        excerpt.append(line)
    return "\n".join(part[depth:] for part in excerpt)


def snapshot_texts(lines: Iterable[str]) -> Texts:
    """The files of an applied snapshot, from its lines (`["text", file, text]`; others are skipped)."""
    texts: dict[str, str] = {}
    for line in lines:
        if not line.startswith('["text"'):
            continue
        try:
            parts = json.loads(line)
        except ValueError:
            continue
        if isinstance(parts, list) and len(parts) == 3 and isinstance(parts[1], str) and isinstance(parts[2], str):
            texts[parts[1]] = parts[2]
    return texts.get

"""Results of `audit search` as a table, as lines of JSON or as CSV."""

import csv
import io
import json
import re
from collections.abc import Iterable, Sequence
from datetime import tzinfo

import click

from relay.cli.audit import text
from relay.cli.output import size, span, table
from relay.core.audit.event import LONGEST_TEXT
from relay.core.audit.row_json import clock, stamp
from relay.core.audit.usage_totals import COLUMNS
from relay.core.escape import escape
from relay.review.group_by import Group, Groups
from relay.review.search import SearchResult

# of a line of CSV; stable: more come at the end
_ENTRY = (
    *("time", "ended", "event", "outcome", "person", "fingerprint", "client", "client_port", "asked", "zone"),
    *("address", "port", "rule", "rule_at", "policy", "sent", "received", "duration", "login", "client_version"),
    *("detail", "id", "connection", "seq", "hash"),
)
_GROUP = ("events", "forwards", "denied", "sent", "received", "duration", "first", "last")
_NUMBER = re.compile(r"-?[0-9]+")


def print_results(found: Sequence[SearchResult], shape: str, zone: tzinfo) -> None:
    """Print entries in one of the shapes table, json, csv."""
    if shape == "json":
        for entry in found:
            click.echo(json.dumps(text.dated(entry.as_json())))
    elif shape == "csv":
        _csv(_ENTRY, map(_line, found))
    else:
        table(
            [f"time ({zone})", "person", "client", "what", "target", "outcome", "sent", "received", "duration", "id"],
            [text.cells(entry, zone) for entry in found],
        )


def print_groups(found: Groups, by: str, shape: str, zone: tzinfo) -> None:
    """Print groups likewise; the table ends with what all groups come to."""
    shown = [group.as_json(by) for group in found.shown]
    if shape == "json":
        for line in shown:
            click.echo(json.dumps(line))
        return
    if shape == "csv":
        _csv((*COLUMNS[by], *_GROUP), (line.values() for line in shown))
        return
    more = found.count - len(found.shown)
    label = f"all {found.count}" if more else "all"
    whole = Group((label,) + ("",) * (len(COLUMNS[by]) - 1), found.total)
    table(
        [*COLUMNS[by], "forwards", "denied", "events", "sent", "received", "open for", f"first ({zone})", "last"],
        [_cells(group, zone) for group in (*found.shown, whole)],
    )


def _cells(group: Group, zone: tzinfo) -> list[object]:
    total = group.total
    return [
        *group.names,
        *(total.forwards, total.denied, total.events),
        *(size(total.sent), size(total.received), span(total.duration)),
        *(clock(total.first, zone)[:16], clock(total.last, zone)[:16]),
    ]


def _line(entry: SearchResult) -> list[object]:
    own = {
        "time": stamp(entry.time),
        "ended": stamp(entry.last.event.time) if len(entry.rows) > 1 else None,
        "event": entry.last.event.name,
        "outcome": entry.outcome,
        "id": entry.id,
        "seq": entry.last.seq,
        "hash": entry.last.hash,
    }
    fields = {**entry.fields, **own}
    return [fields.get(column) for column in _ENTRY]


def _csv(columns: Iterable[str], lines: Iterable[Iterable[object]]) -> None:
    """RFC 4180, with line feeds. Cells hold text from clients: control characters and formulas are neutralised."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for line in lines:
        writer.writerow([_cell(value) for value in line])
        click.echo(text.getvalue(), nl=False)
        text.seek(0)
        text.truncate()
    click.echo(text.getvalue(), nl=False)


def _cell(value: object) -> str:
    """A spreadsheet takes a text that begins with one of = + - @ for a formula, and would run it."""
    if value is None:
        return ""
    text = escape(str(value), LONGEST_TEXT)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") and not _NUMBER.fullmatch(text) else text

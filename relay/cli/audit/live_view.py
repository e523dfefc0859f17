"""The output of `relayctl audit tail`: columns as wide as the terminal, plain lines in a pipe, or JSON lines."""

import json
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterable
from datetime import datetime, tzinfo
from pathlib import Path

import click

from relay.cli.audit import text
from relay.cli.output import size, span
from relay.core.audit.audit_query import AuditQuery
from relay.core.audit.event import Value
from relay.core.audit.hash_chain import Row
from relay.core.audit.row_json import flat
from relay.core.escape import escape

_LEAST = 64  # columns: a narrower window folds lines, which is better than nothing
_WIDE = 100  # from here on there is room for the addresses of client and target
_ID = 11
# what happened to people, in one word with its colour; other events keep their own name
_VERBS = {
    "login.succeeded": ("login", "cyan"),
    "connection.closed": ("logout", ""),
    "forward.opened": ("opened", "green"),
    "forward.closed": ("closed", ""),
    "forward.denied": ("denied", "red"),
    "request.refused": ("refused", "yellow"),
    "connection.killed": ("killed", "magenta"),
}
_GRAVE = ("zone.down", "site.rejected", "audit.lost", "scan.seen", "ban.begun", "key.frozen")
_ORDERLY = ("client-closed", "target-closed")  # how forwards and connections end when nobody ended them


def printer(zone: tzinfo, as_json: bool) -> Callable[[Row], None]:
    """What prints one row: columns where stdout is a terminal, else as ever."""
    if as_json or not sys.stdout.isatty():
        return lambda row: text.print_row(row, zone, as_json)
    return Live(zone, lambda: shutil.get_terminal_size((100, 24)).columns, colour="NO_COLOR" not in os.environ)


def export(question: AuditQuery, rows: Iterable[Row]) -> None:
    """Print the rows that answer `question` as JSON lines, and sync them to the disk if stdout is a file."""
    for row in rows:
        if question.matches(row):
            sys.stdout.write(json.dumps(flat(row)) + "\n")
    sys.stdout.flush()
    if stat.S_ISREG(os.fstat(sys.stdout.fileno()).st_mode):
        os.fsync(sys.stdout.fileno())


def end_torn_line() -> None:
    """Begin a new line if stdout is a file at whose end a crash left a part of one."""
    output = sys.stdout.fileno()
    found = os.fstat(output)
    if not stat.S_ISREG(found.st_mode) or not found.st_size:
        return
    try:
        with Path(f"/proc/self/fd/{output}").open("rb") as file:
            file.seek(-1, os.SEEK_END)
            is_torn = file.read(1) != b"\n"
    except OSError:  # not readable for us: an empty line more does no harm
        is_torn = True
    if is_torn:
        sys.stdout.write("\n")


class Live:
    """Prints rows one after the other; `width` is asked before each line, because windows are pulled wider."""

    def __init__(self, zone: tzinfo, width: Callable[[], int], *, colour: bool) -> None:
        self._zone, self._width, self._colour = zone, width, colour
        self._day = ""

    def __call__(self, row: Row) -> None:
        for line in self.lines(row):
            click.echo(line, color=self._colour)

    def lines(self, row: Row) -> list[str]:
        """The row's line, after a rule with the date when a day begins."""
        width = max(self._width(), _LEAST)
        day, clock = _when(row.event.time, self._zone)
        found = []
        if day != self._day:
            self._day = day
            rule = f"── {day} ({self._zone}) "
            found.append(self._paint(rule + "─" * max(width - len(rule), 0), dim=True))
        return [*found, self._line(row, clock, width)]

    def _line(self, row: Row, clock: str, width: int) -> str:
        fields, name = row.event.fields, row.event.name
        verb, colour = _VERBS.get(name, ("", ""))
        grave = name in _GRAVE or (name == "forward.closed" and fields.get("reason") not in _ORDERLY)
        id = _said(fields.get("forward") or row.event.id)
        parts = [self._paint(clock, dim=True)]
        used = len(clock)

        def put(text: str, size: int, colour: str = "", *, dim: bool = False) -> None:
            nonlocal used
            parts.append(self._paint(fit(text, size), colour, dim=dim))
            used += size + 2

        if verb:
            put(verb, 7, "red" if grave else colour, dim=not (colour or grave))
            put(_said(fields.get("person")), 12)
            if width >= _WIDE:
                put(_said(fields.get("client")), 15, dim=True)
            if name.startswith("forward."):
                address = fields.get("address") if width >= _WIDE else None
                put(
                    _target(fields.get("asked"), address),
                    min(max((width - used - _ID) * 9 // 20, 16), 44),
                )
        else:
            put(name, 21, "red" if grave else "magenta")
        room = width - used - 2 - (_ID + 2)
        put(_rest(row), max(room, 0), dim=name in ("forward.opened", "login.succeeded") and not grave)
        parts.append(self._paint(fit(id, _ID), dim=True))
        return "  ".join(part for part in parts if part)

    def _paint(self, text: str, colour: str = "", *, dim: bool = False) -> str:
        return click.style(text, fg=colour or None, dim=dim or None) if self._colour and (colour or dim) else text


def _when(us: int, zone: tzinfo) -> tuple[str, str]:
    try:
        local = datetime.fromtimestamp(us // 1_000_000, zone)
    except (ValueError, OverflowError, OSError):
        return "no date", "--:--:--"
    return f"{local:%Y-%m-%d %a}", f"{local:%H:%M:%S}"


def _said(value: Value) -> str:
    return "-" if value in (None, "") else escape(str(value), 200)


def _target(asked: Value, address: Value) -> str:
    """As asked for, with the address that was judged where the name does not say it."""
    name = _said(asked)
    return name if not address or str(address) in name else f"{name} ({_said(address)})"


def _rest(row: Row) -> str:
    fields, name = row.event.fields, row.event.name
    duration = fields.get("duration")
    lasted = span(duration) if isinstance(duration, int) else ""
    told: list[Value]
    match name:
        case "login.succeeded":
            version, key = _said(fields.get("client_version")), _said(fields.get("fingerprint"))
            told = [version.removeprefix("SSH-2.0-"), key[:15] + "…" if len(key) > 16 else key]
        case "forward.opened":
            told = [fields.get("rule")]
        case "forward.closed":
            flow = f"↑{size(fields.get('sent')) or '-'} ↓{size(fields.get('received')) or '-'}"
            reason = fields.get("reason")
            told = [None if reason in _ORDERLY else reason, flow, lasted, fields.get("obstacle")]
        case "forward.denied" | "connection.closed":
            told = [fields.get("reason"), lasted, fields.get("detail")]
        case "request.refused":
            told = [fields.get("kind"), fields.get("type"), fields.get("detail")]
        case _:
            shown = ("person", "zone", "source", "kind", "file", "reason", "why", "count", "by_sudo", "detail")
            told = [fields.get(key) for key in (*shown, "policy", "version", "fingerprint")] + [lasted]
    return "  ".join(_said(value) for value in told if value not in (None, ""))


def fit(text: str, size: int) -> str:
    """`text` in exactly `size` columns, cut in the middle: beginnings and ends tell names apart."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= size:
        return text + " " * (size - cell_len(text))
    if size < 5:
        return set_cell_size(text, size)
    left = (size - 1) // 2
    right = size - 1 - left
    tail = text[-1:]
    while len(tail) < len(text) and cell_len(text[-len(tail) - 1 :]) <= right:
        tail = text[-len(tail) - 1 :]
    return set_cell_size(f"{set_cell_size(text, left)}…{tail}", size)

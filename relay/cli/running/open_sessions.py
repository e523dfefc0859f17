"""Open connections and forwards, fetched from the running relay and printed."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import click

from relay.cli.output import size, span
from relay.core.escape import escape
from relay.errors import RelayError, RelayNotRunning
from relay.serve import control_client
from relay.site.locate import Site

SECONDS = 10.0  # between two pieces of an answer; a worker that is silent is given up after 2
RETRY_SECONDS = 5.0  # for a relay that is being restarted
_KEY_SHOWN = 18  # characters of a fingerprint beside a person; `--json` has all

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class OpenSessions:
    """Connections, oldest first, each with its `forwards`; and the workers that did not answer."""

    connections: tuple[Row, ...]
    silent: tuple[Row, ...]
    last: Row  # the last piece of the answer

    def of(self, what: str) -> "OpenSessions":
        """Only the connections of this person, key, connection id or forward id."""
        mine = (one for one in self.connections if what in (one["c"], one["person"], one["key"], *_ids(one)))
        return OpenSessions(tuple(mine), self.silent, self.last)

    def names(self) -> frozenset[str]:
        """Every name of a connection or forward: ids, persons, keys."""
        found = set[str]()
        for one in self.connections:
            found |= {one["c"], one["person"], one["key"], *_ids(one)}
        return frozenset(found - {""})


def query(site: Site, question: Mapping[str, Any]) -> OpenSessions:
    """Send `connections` or `kill` to the running relay. Raises RelayNotRunning, NotPermitted, or RelayError."""
    deadline = time.monotonic() + RETRY_SECONDS
    while True:
        try:
            return _joined(list(control_client.listen(site.state, question, SECONDS)))
        except RelayNotRunning as error:
            if not error.hint.startswith("ask again") or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _joined(pieces: Sequence[Row]) -> OpenSessions:
    last = pieces[-1]
    if not last.get("ok"):
        problem = escape(str(last.get("problem") or last.get("error")), 300)
        raise RelayError(problem, "is the relay that runs an older one? relayctl upgrade")
    connections: dict[str, Row] = {}
    forwards: dict[str, Row] = {}
    for piece in pieces:
        for row in piece.get("connections", ()):
            connections[row["c"]] = {"person": "", "key": "", **row, "worker": piece.get("worker"), "forwards": []}
        for row in piece.get("forwards", ()):
            forwards[row["f"]] = row
    for row in sorted(forwards.values(), key=_since):
        if row["c"] in connections:
            connections[row["c"]]["forwards"].append(row)
    return OpenSessions(tuple(sorted(connections.values(), key=_since)), tuple(last.get("silent", ())), last)


def _since(row: Row) -> tuple[int, str]:
    return row.get("since") or 0, str(row.get("f") or row["c"])


def _ids(one: Row) -> Iterator[str]:
    return (row["f"] for row in one["forwards"])


def lines(opened: OpenSessions, now_us: int) -> Iterator[str]:
    """One line for each connection, and one for each of its forwards, with columns; everything is escaped."""
    known = [one for one in opened.connections if one["state"] != "log-in"]
    table = {one["c"]: [_cells(row, now_us) for row in one["forwards"]] for one in known}
    rows = [row for found in table.values() for row in found]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)] if rows else []
    heads = [_head(one, now_us) for one in known]
    head_widths = [max(map(len, column)) for column in zip(*heads, strict=True)] if heads else []
    for one, head in zip(known, heads, strict=True):
        yield "  ".join(cell.ljust(width) for cell, width in zip(head, head_widths, strict=True)).rstrip()
        for row in table[one["c"]]:
            yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    yield summary(opened)


def summary(opened: OpenSessions) -> str:
    """The numbers of connections and forwards."""
    strangers = sum(one["state"] == "log-in" for one in opened.connections)
    forwards = sum(len(one["forwards"]) for one in opened.connections)
    before = f"; {strangers} more before log-in" if strangers else ""
    return f"{many(len(opened.connections) - strangers, 'connection')}, {many(forwards, 'forward')}{before}"


def _head(one: Row, now_us: int) -> list[str]:
    key = str(one["key"])
    return [
        click.style(escape(str(one["person"]), 40), bold=True),
        client(one),
        f"for {span(max(0, now_us - one['since']))}" if one.get("since") else "",
        f"id {escape(str(one['c']), 40)}",
        escape(key[:_KEY_SHOWN] + ("..." if len(key) > _KEY_SHOWN else ""), 80),
        escape(str(one.get("version", "")), 60),
    ]


def client(one: Row) -> str:
    """Address and port of the client; "" where only the supervisor knows the connection."""
    if not one.get("client"):
        return ""
    address = str(one["client"])
    return f"{f'[{address}]' if ':' in address else address}:{one.get('port')}"


def target(row: Row) -> str:
    """The target of a forward: as requested, and the address that was dialled."""
    address = str(row.get("address"))
    dialled = f"{f'[{address}]' if ':' in address else address}:{row.get('port')}"
    asked = str(row.get("asked") or dialled)
    where = f"in {row.get('zone')}" if address in asked else f"{address} in {row.get('zone')}"
    return escape(f"{asked} ({where})", 200)


def _cells(row: Row, now_us: int) -> list[str]:
    def flow(count: str, rate: str) -> str:
        return f"{size(row.get(count)) or '?'}" + (f" ({size(row[rate])}/s)" if row.get(rate) else "")

    opening = row["state"] == "opening"
    return [
        target(row),
        f"id {escape(str(row['f']), 40)}",
        ("dialling " if opening else "for ") + span(max(0, now_us - row["since"])) if row.get("since") else "",
        f"sent {flow('sent', 'sent_rate')}",
        f"received {flow('received', 'received_rate')}",
        "" if opening or row.get("idle") is None else f"idle {row['idle']} s",
    ]


def as_json(opened: OpenSessions) -> Row:
    """The sessions as JSON: times are UTC, rates are bytes per second, idle is in seconds."""
    return {
        "connections": [
            {
                "id": one["c"],
                "state": one["state"],
                "person": one["person"] or None,
                "fingerprint": one["key"] or None,
                "client": one.get("client"),
                "client_port": one.get("port"),
                "client_version": one.get("version"),
                "login": one.get("login"),
                "since": _instant(one.get("since")),
                "worker": one.get("worker"),
                "forwards": [
                    {
                        "id": row["f"],
                        "since": _instant(row.get("since")),
                        **{key: row.get(key) for key in ("state", "asked", "zone", "address", "port", "rule")},
                        **{key: row.get(key) for key in ("sent", "received", "sent_rate", "received_rate", "idle")},
                    }
                    for row in one["forwards"]
                ],
            }
            for one in opened.connections
        ],
        "silent_workers": list(opened.silent),
    }


def silent_worker_lines(silent: Iterable[Row]) -> Iterator[str]:
    """One line for each worker that did not answer."""
    for one in silent:
        name = escape(str(one.get("name")), 60)
        if one.get("pid") is None:
            yield f"worker {name} has not joined the supervisor yet: its connections are unknown; try again"
        else:
            yield (
                f"worker {name} did not answer within 2 s, so the state of its connections is unknown; "
                f"to end it with everything in it: kill {one['pid']}"
            )


def many(count: int, noun: str) -> str:
    """A count with its noun, in the singular or plural."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _instant(us: object) -> str | None:
    if not isinstance(us, int):
        return None
    return datetime.fromtimestamp(us / 1_000_000, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")

"""Audit rows, search results and timelines as text and JSON."""

import json
import os
from datetime import tzinfo
from typing import Any

import click

from relay.cli.output import size, span, table
from relay.core import ids
from relay.core.audit import log_lines
from relay.core.audit.hash_chain import Row
from relay.core.audit.row_json import clock, flat, stamp
from relay.core.escape import escape
from relay.review.search import SearchResult
from relay.review.timeline import Timeline

_COLOURS = {
    "forward.opened": "green",
    "forward.denied": "red",
    "request.refused": "yellow",
    "site.rejected": "red",
    "zone.down": "red",
    "zone.up": "green",
}


def cells(entry: SearchResult, zone: tzinfo) -> list[object]:
    """One entry as a line of the table."""
    fields = entry.fields
    name = entry.first.event.name
    what = "forward" if name.startswith("forward.") else name
    target = fields.get("asked") or fields.get("type") or fields.get("file")
    if not target and name.startswith("site."):  # other events carry the policy too, but are not about it
        target = fields.get("policy")
    elif not target and name.startswith("zone."):
        target = fields.get("zone")
    if fields.get("address") and isinstance(target, str) and str(fields["address"]) not in target:
        target = f"{target} ({fields['address']})"
    duration = fields.get("duration")
    outcome: object = entry.outcome
    if outcome == name:
        outcome = fields.get("reason") or fields.get("detail") or fields.get("why")
    if fields.get("obstacle"):
        outcome = f"{outcome}: {fields['obstacle']}"
    return [
        clock(entry.time, zone)[:19],
        fields.get("person"),
        fields.get("client"),
        what,
        target,
        outcome,
        size(fields.get("sent")),
        size(fields.get("received")),
        span(duration) if isinstance(duration, int) else None,
        entry.id,
    ]


def dated(value: dict[str, Any]) -> dict[str, Any]:
    """Times as text, UTC with microseconds."""
    return {
        key: stamp(item) if key in ("time", "ended") and isinstance(item, int) else item for key, item in value.items()
    }


def print_row(row: Row, zone: tzinfo, as_json: bool) -> None:
    """Print one row as one line."""
    if as_json:
        click.echo(json.dumps(flat(row)))
        return
    line = f"{clock(row.event.time, zone)[:23]} {log_lines.event_line(row.event)}"
    colour = None if "NO_COLOR" in os.environ else _COLOURS.get(row.event.name)
    click.echo(click.style(line, fg=colour) if colour else line)  # echo leaves colours out where no terminal is


def print_timeline(timeline: Timeline, zone: tzinfo) -> None:
    """Print the timeline of a connection or an event."""
    fields: dict[str, Any] = {}
    for row in timeline.rows:
        fields.update((key, value) for key, value in row.event.fields.items() if value is not None)
    if fields.get("connection"):
        expires = fields.get("expires")
        facts = {
            "connection": fields["connection"],
            "person": fields.get("person"),
            "key": fields.get("fingerprint"),
            "key ends": clock(expires * 1_000_000, zone)[:19] if isinstance(expires, int) else "never",
            "login name": fields.get("login"),
            "client": f"{fields.get('client')} port {fields.get('client_port')}",
            "version": fields.get("client_version"),
        }
        for name, value in facts.items():
            click.echo(f"{name:<11} {'-' if value in (None, '') else escape(str(value))}")
        click.echo()
    click.echo(f"times are {zone}")
    for row in timeline.rows:
        mark = ">" if row.seq in timeline.chosen else " "
        click.echo(f"{mark} {clock(row.event.time, zone)} {log_lines.event_line(row.event)}")
    for rule in timeline.rules:
        place = f" at {escape(rule.at)}" if rule.at else ""
        click.echo(f"\nrule {escape(rule.rule)!r}{place}, policy {escape(rule.version)}:")
        for line in rule.text.splitlines() or ["(the files of that version were not kept)"]:
            click.echo(f"    {escape(line, 500)}")
    for version, reason in _ruleless(timeline):
        click.echo(f"\npolicy {escape(version)} was in force, and no rule of it decided: {escape(reason)}")


def _ruleless(timeline: Timeline) -> list[tuple[str, str]]:
    """Policy version and reason of each denial that no rule decided."""
    shown = [row.event for row in timeline.rows if not timeline.chosen or row.seq in timeline.chosen]
    denied = [event.fields for event in shown if event.name == "forward.denied" and not event.fields.get("rule")]
    return sorted({(str(fields["policy"]), str(fields.get("reason"))) for fields in denied if fields.get("policy")})


def print_attempts(timeline: Timeline, zone: tzinfo) -> None:
    """Print the recorded attempts for a reference id of an unauthenticated client."""
    if timeline.exact is not None:
        attempt = timeline.exact
        click.echo(
            f"unauthenticated client from {escape(attempt.prefix)}, id {escape(timeline.id)}: {escape(attempt.kind)}"
        )
        click.echo(f"in the minute of {clock(attempt.minute * 60_000_000, zone)[:16]} ({zone}): {attempt.count} times")
        if attempt.fingerprint:
            click.echo(f"the key it offered last: {escape(attempt.fingerprint)}")
            click.echo("  to let that key in: relayctl add-key PERSON FILE, with the file from its owner")
        if attempt.login:
            length, _, digest = attempt.login.partition("/")
            click.echo(f"the login name: {escape(length)} bytes, hash {escape(digest)} (the name itself is not stored)")
        return
    click.echo(f"{escape(timeline.id)} is no row; failed log-ins are counted, with the last id of each count")
    click.echo(f"failed log-ins around {clock(ids.made_at(timeline.id), zone)[:19]} ({zone}):")
    table(
        ["minute", "from", "what", "times", "last key", "last login", "last id"],
        [
            [
                clock(attempt.minute * 60_000_000, zone)[:16],
                attempt.prefix,
                attempt.kind,
                attempt.count,
                attempt.fingerprint,
                attempt.login,
                attempt.reference,
            ]
            for attempt in timeline.minute
        ],
    )


def timeline_json(timeline: Timeline) -> dict[str, Any]:
    """A timeline as JSON."""
    attempts = (timeline.exact,) if timeline.exact else timeline.minute
    keys = ("minute", "prefix", "kind", "count", "reference", "fingerprint", "login")
    return {
        "id": timeline.id,
        "chosen": list(timeline.chosen),
        "rows": [flat(row) for row in timeline.rows],
        "rules": [
            {"policy": rule.version, "rule": rule.rule, "at": rule.at, "text": rule.text} for rule in timeline.rules
        ],
        "strangers": [{key: getattr(attempt, key) for key in keys} for attempt in attempts],
        "exact": timeline.exact is not None,
    }

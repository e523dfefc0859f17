"""`relayctl kill`: ends connections and forwards."""

import contextlib
import difflib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from relay.cli import Context
from relay.cli.output import json_option, print_json
from relay.core import ids
from relay.core.escape import escape
from relay.errors import InputRejected

if TYPE_CHECKING:
    from relay.cli.running.open_sessions import OpenSessions
    from relay.site.locate import Site

_FINGERPRINT = re.compile(r"(?:SHA256:)?([A-Za-z0-9+/]{43})=?")
_SHOWN = 8  # targets of one connection that are named


@click.command()
@click.argument("what", metavar="CONNECTION|FORWARD|PERSON|KEY")
@click.option("--reason", default="", metavar="TEXT", help="The reason, for the audit log.")
@click.option("--dry-run", is_flag=True, help="Only show what would be ended.")
@json_option
@click.pass_obj
def kill(ctx: Context, what: str, reason: str, dry_run: bool, as_json: bool) -> None:
    """End a connection, a forward, or all of a person or key.

    It ends within a second, also in workers that drain, with a broken site and on a full disk. The client is told that
    the administrator ended it, with an id. It does not block the person; use revoke-key for that. Exit status 1 if
    nothing of that name is open, or a worker did not answer.

    \b
    Example:
      relayctl connections
      relayctl kill 0k3v9x2m4qz --reason 'forgotten'
      relayctl kill alice --dry-run
    """
    from relay.cli.running import open_sessions
    from relay.people import audit_actor

    site = ctx.site(announce=not as_json, narrowing=True)
    by = audit_actor.fields(why=reason)
    for kind, name in _meanings(what):
        done = open_sessions.query(site, {"do": "kill", "kind": kind, "what": name, "by": by, "dry": dry_run})
        if done.connections or done.last.get("stuck"):
            break
    else:
        if not done.silent:
            _nothing(site, what)
    good = not done.silent and not done.last.get("stuck") and bool(done.connections)
    if as_json:
        found = open_sessions.as_json(done)
        for row, one in zip(found["connections"], done.connections, strict=True):
            row["whole"] = bool(one.get("whole"))  # else only the forwards that are named
        print_json({"done": good and not dry_run, "dry_run": dry_run, **found})
    else:
        _show(done, dry_run=dry_run)
    for row in done.last.get("stuck") or ():
        release, connection = escape(str(row.get("release")), 20), escape(str(row["c"]), 20)
        click.echo(
            f"this forward is in a worker of release {release}, which can only end whole connections: "
            f"relayctl kill {connection}",
            err=True,
        )
    for line in open_sessions.silent_worker_lines(done.silent):
        click.echo(line, err=True)
    if done.last.get("problem"):
        click.echo(f"done, but the audit row is not written yet: {escape(str(done.last['problem']), 300)}", err=True)
    raise SystemExit(0 if good else 1)


def _meanings(what: str) -> Iterator[tuple[str, str]]:
    """The possible meanings of the argument, the likeliest first: an open id before a person of that name."""
    match = _FINGERPRINT.fullmatch(what)
    if match is not None:
        yield "key", f"SHA256:{match[1]}"
    with contextlib.suppress(InputRejected):
        yield "id", ids.parse(what)
    yield "person", what


def _show(done: "OpenSessions", *, dry_run: bool) -> None:
    from relay.cli.running.open_sessions import client, target

    verb = "would end" if dry_run else "ended"
    keys = set()
    for one in done.connections:
        person = escape(str(one["person"]), 40) or "a client before log-in"
        source = f" from {client(one)}" if one.get("client") else ""
        targets = [target(row) for row in one["forwards"]]
        if one.get("whole"):
            shown = ", ".join(targets[:_SHOWN]) + (f" and {len(targets) - _SHOWN} more" if targets[_SHOWN:] else "")
            carried = f": {shown}" if shown else ", which carried nothing"
            click.echo(f"{verb}: connection {escape(str(one['c']), 40)} of {person}{source}{carried}")
            keys.add((person, str(one["key"])))
        else:
            for row, where in zip(one["forwards"], targets, strict=True):
                click.echo(f"{verb}: forward {escape(str(row['f']), 40)} of {person}{source} to {where}")
    if dry_run:
        click.echo("nothing was ended", err=True)
        return
    for person, key in sorted(keys):
        if key:
            click.echo(f"{person} may connect again; to block the key: relayctl revoke-key {key}", err=True)


def _nothing(site: "Site", what: str) -> None:
    """Nothing of that name is open. Raises InputRejected, with the nearest name."""
    from relay.cli.running import open_sessions

    found: dict[str, Any] = {name.lower(): name for name in open_sessions.query(site, {"do": "connections"}).names()}
    meant = what.lower().removesuffix("...")  # as `relayctl connections` shortens a fingerprint
    near = [name for name in sorted(found) if meant in name][:1] or difflib.get_close_matches(meant, found, n=1)
    raise InputRejected(
        f"no connection or forward matches {escape(what, 80)!r}",
        f"did you mean {escape(str(found[near[0]]), 80)}?" if near else "see: relayctl connections",
    )

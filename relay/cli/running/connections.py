"""`relayctl connections`: open connections and their traffic."""

import json
import shutil
import sys
import time
from typing import TYPE_CHECKING

import click

from relay.cli import Context
from relay.cli.output import json_option, print_json
from relay.errors import RelayError, RelayNotRunning

if TYPE_CHECKING:
    from relay.cli.running.open_sessions import OpenSessions
    from relay.site.locate import Site

EVERY = 2.0  # seconds between two updates of --watch


@click.command()
@click.argument("who", metavar="[PERSON|KEY|ID]", required=False, default="")
@click.option("--watch", is_flag=True, help="Update every 2 s until Ctrl-C.")
@json_option
@click.pass_obj
def connections(ctx: Context, who: str, watch: bool, as_json: bool) -> None:
    """Show open connections and their traffic.

    Lists each connection with person, client and key, and each of its forwards with target, bytes, rate and idle time
    in seconds, also those of earlier releases that still drain. With a person, a fingerprint or an id: only the
    connections that belong to it; exit status 1 if there are none.

    \b
    Example:
      relayctl connections
      relayctl connections alice --watch
      relayctl connections --json
    """
    from relay.cli.running import open_sessions

    site = ctx.site()
    if watch:
        _watch(site, who, as_json=as_json)
        return
    found = open_sessions.query(site, {"do": "connections"})
    found = found.of(who) if who else found
    if as_json:
        print_json(open_sessions.as_json(found))
    else:
        for line in open_sessions.lines(found, time.time_ns() // 1000):
            click.echo(line)
    for line in open_sessions.silent_worker_lines(found.silent):
        click.echo(line, err=True)
    raise SystemExit(1 if who and not found.connections else 0)


def _watch(site: "Site", who: str, *, as_json: bool) -> None:
    terminal = sys.stdout.isatty() and not as_json
    try:
        while True:
            _draw(site, who, terminal=terminal, as_json=as_json)
            sys.stdout.flush()
            time.sleep(EVERY)
    except KeyboardInterrupt:
        click.echo("", err=True)


def _draw(site: "Site", who: str, *, terminal: bool, as_json: bool) -> None:
    from relay.cli.running import open_sessions

    try:
        found: OpenSessions | None = open_sessions.query(site, {"do": "connections"})
    except RelayNotRunning as error:  # it may be restarting; open connections continue
        found, trouble = None, error.what
    except RelayError:
        raise
    if found is not None and who:
        found = found.of(who)
    if as_json:
        now = int(time.time() * 1e6)
        click.echo(json.dumps({"time": now, **(open_sessions.as_json(found) if found else {"error": trouble})}))
        return
    head = click.style(f"{time.strftime('%H:%M:%S')}  every {EVERY:.0f} s, Ctrl-C ends", dim=True)
    lines = [head]
    if found is None:
        lines.append(trouble)
    else:
        lines += open_sessions.lines(found, time.time_ns() // 1000)
        lines += open_sessions.silent_worker_lines(found.silent)
    if not terminal:
        click.echo("\n".join(click.unstyle(line) for line in [*lines, ""]))
        return
    width, height = shutil.get_terminal_size()
    rows = 0
    for number, line in enumerate(lines):
        rows += max(1, -(-len(click.unstyle(line)) // width))
        if rows > height - 2:
            lines = [*lines[:number], f"... {open_sessions.summary(found)}" if found else "..."]
            break
    body = "".join(f"{line}\x1b[K\n" for line in lines)
    click.echo(f"\x1b[H{body}\x1b[J", nl=False)

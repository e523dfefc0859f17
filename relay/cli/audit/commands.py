"""`relayctl audit`: search, tail and show."""

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from relay.cli import Context
from relay.cli.audit import live_view, table, text, verify
from relay.cli.audit.archive import archive
from relay.cli.audit.options import filters, query_from_options, zone_of
from relay.cli.audit.report import digest, report
from relay.cli.output import json_option, progress
from relay.core import ids
from relay.core.audit.audit_query import AuditQuery
from relay.core.audit.row_json import clock
from relay.core.audit.usage_totals import BY
from relay.core.escape import escape
from relay.errors import InputRejected, RelayError
from relay.review import tail as following
from relay.review.full_log import FullLog
from relay.review.group_by import ORDERS, group_rows
from relay.review.search import search_log
from relay.review.timeline import Texts, build_timeline, snapshot_texts
from relay.store.archive.archive_reader import ArchiveReader
from relay.store.reader import AuditReader
from relay.store.writer import FILE

_Command = TypeVar("_Command", bound=Callable[..., Any])
_VERSION = re.compile(r"[0-9a-f]{4,64}")  # of a policy; it becomes a file's name here
USUAL_LIMIT = 100  # lines: some screens
_LATE_SECONDS = 60  # attempt counters are written every ten; a disk may be slow


@click.group()
def audit() -> None:
    """Review who reached what.

    \b
    Example:
      relayctl audit search --person alice --since 7d
      relayctl audit tail -f
      relayctl audit show 0k3v9x2m4qz
      relayctl audit verify
    """


audit.add_command(verify.verify)
audit.add_command(verify.anchor)
audit.add_command(verify.rows)


@audit.command()
@filters
@click.option("--limit", type=click.IntRange(1, 1_000_000), help="The newest so many: 100 unless said.")
@click.option("--group-by", "by", type=click.Choice(BY), help="Sums instead of lines: who did how much.")
@click.option("--top", type=click.IntRange(1, 1_000_000), help="With --group-by: the first so many groups.")
@click.option("--order", type=click.Choice(ORDERS), help="With --group-by: most of this first.")
@click.option("--format", "shape", type=click.Choice(["table", "json", "csv"]), help="table unless said.")
@json_option
@click.pass_obj
def search(
    context: Context,
    /,
    *,
    limit: int | None,
    by: str | None,
    top: int | None,
    order: str | None,
    shape: str | None,
    as_json: bool,
    **asked: str | None,
) -> int:
    """List events, newest last, or with --group-by their totals.

    A forward is one line from opening to end. Times without an offset are in the site's time zone. In sums a forward
    counts where it was opened, its bytes and its time where it ended.

    \b
    Example:
      relayctl audit search --target 192.168.1.50 --since 2026-10-01 --until 2026-10-07
      relayctl audit search --from 203.0.113.0/24 --verdict denied --format csv
      relayctl audit search --since 30d --group-by person --top 10 --order bytes
    """
    if as_json and shape not in (None, "json"):
        raise click.UsageError(f"--json and --format {shape} exclude each other")
    if by is None and (top is not None or order):
        raise click.UsageError(f"{'--top' if top else '--order'} needs --group-by, such as --group-by person")
    if by is not None and limit is not None:
        raise click.UsageError("--limit counts lines, and --group-by has none; --top counts groups")
    shape = "json" if as_json else shape or "table"
    site = context.site()
    zone = zone_of(site.path)
    query = query_from_options(asked, zone)
    with _log(site.state) as rows:
        if by is not None:
            with progress("adding up") as advance:
                sums = group_rows(
                    rows,
                    query,
                    by,
                    day=lambda us: clock(us, zone)[:10],
                    order=order or "",
                    top=top,
                    progress=advance,
                )
            if not sums.count:
                raise _no_rows(rows, query)
            table.print_groups(sums, by, shape, zone)
            return 0
        found = search_log(rows, query, limit or USUAL_LIMIT)
        if not found:
            raise _no_rows(rows, query)
    table.print_results(found, shape, zone)
    if shape == "table" and len(found) == (limit or USUAL_LIMIT):
        click.echo(f"the newest {len(found)}; --limit asks for more", err=True)
    return 0


@audit.command()
@filters
@click.option("-f", "--follow", is_flag=True, help="Go on as things happen, until interrupted.")
@click.option("-n", "--lines", default=10, show_default=True, type=click.IntRange(0, 100_000), help="First so many.")
@click.option(
    "--resume",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="With --follow --json: every event since the last one that FILE names; it is kept up to date.",
)
@json_option
@click.pass_obj
def tail(context: Context, /, follow: bool, lines: int, resume: Path | None, as_json: bool, **asked: str | None) -> int:
    """Show the last events, one line each, and follow them.

    On a terminal in columns as wide as the window, with colours and a rule at midnight; in a pipe as plain lines.

    --resume is for exporting: the first run prints the whole log, a later run goes on where the last one ended. Each
    event is printed at least once, in order; after a crash those of the last second are printed again.

    \b
    Example:
      relayctl audit tail -f
      relayctl audit tail -f --verdict denied
      relayctl audit tail --follow --json --resume /var/lib/collector/relay.resume
    """
    if resume is not None and not (follow and as_json):
        raise click.UsageError("--resume needs --follow and --json")
    site = context.site()
    zone = zone_of(site.path)
    query = query_from_options(asked, zone)
    with _log(site.state) as rows:
        head = rows.head()
        if resume is not None:
            live_view.end_torn_line()
            following.resume(
                rows,
                resume,
                partial(live_view.export, query),
                wait=time.sleep,
                clock=time.monotonic,
                report=partial(click.echo, err=True),
            )
        show = live_view.printer(zone, as_json)
        for row in following.newest(rows, query, lines):
            show(row)
        if follow:
            for row in following.follow(rows, query, head, time.sleep):
                show(row)
    return 0


@audit.command()
@click.argument("id", metavar="ID")
@json_option
@click.pass_obj
def show(context: Context, /, id: str, as_json: bool) -> int:
    """Show the timeline of an id: of a connection, a forward, a refusal, or a failed log-in.

    \b
    Example:
      relayctl audit show 0k3v9x2m4qz
    """
    site = context.site()
    with _log(site.state) as rows:
        asked = id.strip()[:200].encode(errors="replace").decode()  # the log holds nothing that is not UTF-8
        timeline = build_timeline(rows, asked, lambda version: _texts(site.state, version))
        if timeline is None:
            raise _unknown_id(rows, id.strip())
    if as_json:
        click.echo(json.dumps(text.timeline_json(timeline), indent=2))
    elif timeline.rows:
        text.print_timeline(timeline, zone_of(site.path))
    else:
        text.print_attempts(timeline, zone_of(site.path))
    return 0


@contextmanager
def _log(state: Path) -> Iterator[FullLog]:
    """The whole log of a relay: its database, and what was archived before."""
    with AuditReader(state / FILE) as reader:
        yield FullLog(reader, ArchiveReader(state))


# ---- no result


def _no_rows(rows: FullLog, query: AuditQuery) -> RelayError:
    if query.person:
        import difflib

        persons = rows.persons()
        if query.person not in persons:
            near = difflib.get_close_matches(query.person, persons, n=1)
            return RelayError(
                f"the audit log has no person {query.person[:40]!r}",
                f"did you mean {near[0]!r}?" if near else "relayctl list-keys lists the persons",
            )
    hint = "Remove an option to widen the search."
    if query.since is not None and query.until is not None and query.since >= query.until:
        hint = "--since is not before --until"
    return RelayError("No matching rows.", hint)


def _unknown_id(rows: FullLog, id: str) -> RelayError:
    shown = escape(id, 40)
    near = rows.nearest(id.lower())
    try:
        made = clock(ids.made_at(ids.parse(id)), UTC)[:19]
    except InputRejected as error:
        hint = error.hint
    else:
        hint = f"if this relay made it, that was at {made} UTC"
        if abs(time.time() - ids.made_at(ids.parse(id)) / 1e6) < _LATE_SECONDS:
            hint += "; the id of a failed log-in is known here after some seconds: try again"
    if near:
        hint += f"; the nearest is {escape(near)}: relayctl audit show {escape(near)}"
    return RelayError(f"the audit log has no id {shown}", hint)


def _texts(state: Path, version: str) -> Texts | None:
    """The files of an applied policy version, None when they were not kept or cannot be read."""
    if not _VERSION.fullmatch(version):
        return None
    try:
        with (state / "applied" / "history" / f"{version}.jsonl").open(encoding="utf-8", errors="replace") as lines:
            return snapshot_texts(lines)
    except OSError:
        return None


audit.add_command(archive)
audit.add_command(report)
audit.add_command(digest)

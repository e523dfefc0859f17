"""`relayctl audit archive`: moves old rows from the database to verifiable archive files."""

import sys
import time
from datetime import tzinfo
from typing import TYPE_CHECKING, Any

import click

from relay.cli import Context
from relay.cli.audit.options import zone_of
from relay.cli.output import json_option, print_json, size, table
from relay.core.audit.archive_format import SEALED, retention
from relay.core.audit.row_json import clock
from relay.core.escape import escape
from relay.errors import InputRejected, RelayError, RelayNotRunning

if TYPE_CHECKING:
    from relay.core.audit.archive_format import ArchiveEntry
    from relay.core.audit.event import Event
    from relay.core.settings import Settings
    from relay.site.locate import Site

_SECONDS = 900.0  # between two archives: each has at most 600 in the relay's child


@click.command()
@click.option("--before", default="", metavar="TIME", help="All rows older than this, whatever `keep` says.")
@click.option("--list", "as_list", is_flag=True, help="Only list the archives that there are.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--discard", default="", metavar="TIME", help="Delete archives that hold only rows older than this.")
@click.option("--damaged", is_flag=True, help="Go on without archives that are missing or changed.")
@click.option("--reason", default="", metavar="TEXT", help="Why; it stands in the audit log.")
@click.option("--yes", is_flag=True, help="Do not ask before discarding.")
@json_option
@click.pass_obj
def archive(
    context: Context,
    /,
    *,
    before: str,
    as_list: bool,
    dry_run: bool,
    discard: str,
    damaged: bool,
    reason: str,
    yes: bool,
    as_json: bool,
) -> int:
    """Move old rows from the database into archives, or delete old archives.

    The relay does it by itself (`audit: {keep, max_size}` in relay.yaml); this is for by hand, while it runs or is
    stopped. A row leaves the database only when the file that holds it was read back and a row says so. Each archive
    ends with a signed checkpoint; `audit search`, `show` and `verify` read archives too. Nothing is ever dropped
    but by --discard. Exit status 1 for a missing or changed archive: then nothing is deleted until it is brought back,
    or given up with --damaged, which is on record and keeps what is left of the file.

    \b
    Example:
      relayctl audit archive --dry-run
      relayctl audit archive --before 90d
      relayctl audit archive --discard 2023-01-01 --reason 'kept for three years'
    """
    if sum(map(bool, (before, discard, damaged, as_list))) > 1:
        raise click.UsageError("--before, --discard, --damaged and --list are different things; give one")
    site = context.site(announce=not (as_json or as_list or dry_run))
    zone = _zone(site)
    if as_list:
        return _list(site, zone, as_json=as_json)
    if discard:
        return _discard(site, _time(discard, zone), zone, reason, dry_run=dry_run, yes=yes, as_json=as_json)
    if damaged:
        return _give_up(site, reason, dry_run=dry_run, yes=yes, as_json=as_json)
    edge = _time(before, zone) if before else None
    if dry_run:
        return _foresee(site, edge, zone, as_json=as_json)
    return _archive(site, edge, reason, as_json=as_json)


def _archive(site: "Site", before: int | None, reason: str, *, as_json: bool) -> int:
    from relay.people import audit_actor
    from relay.serve import control_client

    by = audit_actor.fields(why=reason)
    done: list[dict[str, Any]] = []
    held = ""
    try:
        for piece in control_client.listen(site.state, {"do": "archive", "before": before, "by": by}, _SECONDS):
            if "entry" in piece:
                _tell(done, str(piece["entry"]), int(piece["rows"]), int(piece["bytes"]), quiet=as_json)
            elif piece.get("ok"):
                held = str(piece.get("held", ""))
            else:
                problem = str(piece.get("problem") or piece.get("error"))
                raise RelayError(escape(problem, 500), escape(str(piece.get("hint", "")), 300))
    except RelayNotRunning as error:
        if not error.hint.startswith("start it"):
            raise
        held = _archive_stopped(site, before, by, done, quiet=as_json)
    if as_json:
        print_json({"archived": done, "held": held})
        return 0
    if not done:
        click.echo("nothing to archive" + (f": {escape(held, 300)}" if held else ""))
    elif held:
        click.echo(f"the rest stays: {escape(held, 300)}")
    return 0


def _archive_stopped(
    site: "Site", before: int | None, by: dict[str, Any], done: list[dict[str, Any]], *, quiet: bool
) -> str:
    """Do what the relay would do; why some rows stay."""
    from relay.store.archive import archive_job
    from relay.store.reader import AuditReader
    from relay.store.writer import FILE, AuditWriter

    held: list[str] = []
    settings = _settings(site)
    with AuditReader(site.state / FILE) as reader:
        reader.head()  # where there is no database none is made
    writer = AuditWriter(site.state / FILE, settings.node)
    try:
        for entry in archive_job.run(site.state, retention(settings), _now, before, lambda due: held.append(due.held)):
            archive_job.settle(writer, entry, by)
            _tell(done, entry.file, entry.rows, entry.bytes, quiet=quiet)
        while writer.give_back():
            pass
    finally:
        writer.close()
    return held[-1] if held else ""


def _tell(done: list[dict[str, Any]], file: str, rows: int, bytes: int, *, quiet: bool) -> None:
    done.append({"file": file, "rows": rows, "bytes": bytes})
    if not quiet:
        click.echo(f"archived: {escape(file, 100)}, {rows} rows, {size(bytes)}")


def _foresee(site: "Site", before: int | None, zone: tzinfo, *, as_json: bool) -> int:
    from relay.store.archive import archive_job
    from relay.store.reader import AuditReader
    from relay.store.writer import FILE

    settings = _settings(site)
    with AuditReader(site.state / FILE) as reader:
        due = archive_job.plan(site.state, reader, retention(settings), _now(), before)
        first = next(iter(reader.after(due.after, 1)), None)
        room = reader.room()
    last = due.ends[-1] if due.ends else due.after
    most = settings.audit_max_size
    if as_json:
        print_json({"after": due.after, "ends": due.ends, "held": due.held, "used": room.used, "max_size": most})
        return 0
    click.echo(f"the database uses {size(room.used)} of {size(most) if most else 'any size'}")
    if first is not None:
        click.echo(f"its oldest row is number {first.seq}, of {_clock(first.event.time, zone)}")
    if due.ends:
        click.echo(f"would be archived: rows {due.after + 1} to {last}, in {len(due.ends)} files")
    else:
        click.echo("nothing would be archived")
    if due.held:
        click.echo(f"{'the rest stays' if due.ends else 'it waits'}: {escape(due.held, 300)}")
    return 0


def _list(site: "Site", zone: tzinfo, *, as_json: bool) -> int:
    from dataclasses import asdict

    from relay.store.archive.archive_reader import ArchiveReader

    archives = ArchiveReader(site.state)
    entries = archives.entries()
    if as_json:
        print_json([{"file": entry.file, **asdict(entry)} for entry in entries])
        return 0 if entries else 1
    if not entries:
        raise RelayError("there is no archive yet", "relayctl audit archive --dry-run says what is due")
    table(
        ["file", "rows", f"from ({zone})", "to", "size", "sha256", ""],
        [
            (
                *(entry.file, entry.rows, _clock(entry.since, zone), _clock(entry.until, zone), size(entry.bytes)),
                *(entry.sha256[:16], "" if entry.kept else "discarded"),
            )
            for entry in entries
        ],
    )
    return 0


def _discard(site: "Site", before: int, zone: tzinfo, reason: str, *, dry_run: bool, yes: bool, as_json: bool) -> int:
    from relay.people import audit_actor
    from relay.store.archive import archive_writer
    from relay.store.archive.archive_reader import ArchiveReader
    from relay.store.reader import AuditReader
    from relay.store.writer import FILE

    archives = ArchiveReader(site.state)
    with AuditReader(site.state / FILE) as reader:
        base, head = reader.base()[0], reader.head()
        sealed = bool(reader.named(SEALED, base, head, newest=True))
        chosen = archive_writer.to_discard(archives, base, before, sealed=sealed)
    left = archive_writer.pending_discards(archives)  # a run was cut short
    if not (chosen or left):
        raise RelayError(
            f"no archive holds only rows from before {_clock(before, zone)}"
            + ("" if sealed else ", but for the newest: its last row says which key signs next"),
            "relayctl audit archive --list",
        )
    if dry_run:
        _say_discards("would be deleted", (*left, *chosen), as_json=as_json)
        return 0
    _ask("delete", (*left, *chosen), yes=yes)
    by = audit_actor.fields(why=reason)
    gone = archive_writer.announce_discards(site.state, chosen, _now)
    for entry in gone:
        _record(site, entry.discarded(by))
        archive_writer.discard(archives, entry)
    _say_discards("deleted", gone, as_json=as_json)
    return 0


def _give_up(site: "Site", reason: str, *, dry_run: bool, yes: bool, as_json: bool) -> int:
    from relay.people import audit_actor
    from relay.store.archive import archive_writer
    from relay.store.archive.archive_reader import ArchiveReader
    from relay.store.reader import AuditReader
    from relay.store.writer import FILE

    with AuditReader(site.state / FILE) as reader:
        base, hash = reader.base()
    lost = archive_writer.damaged(ArchiveReader(site.state), base, hash, _now)
    if dry_run:
        _say_discards("would be given up", lost, as_json=as_json)
        return 0
    if lost:
        _ask("go on without", lost, yes=yes)
    by = audit_actor.fields(why=reason)
    for entry in lost:
        _record(site, entry.discarded({**by, "detail": "missing or changed"}))
    archive_writer.give_up(site.state, base, lost)
    _say_discards("given up", lost, as_json=as_json)
    return 0


def _ask(verb: str, entries: "tuple[ArchiveEntry, ...]", *, yes: bool) -> None:
    if not yes and not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to ask on; say --yes")
    if not yes:
        rows = sum(entry.rows for entry in entries)
        click.confirm(f"{verb} {len(entries)} archives with {rows} rows for good", abort=True)


def _record(site: "Site", row: "Event") -> None:
    """Write the row that must be durable first. Raises RelayError."""
    from relay.cli import audit_event

    problem = str(audit_event.send(site, {"do": "record"}, [row]).get("problem", ""))
    if problem:
        raise RelayError(
            f"nothing more is deleted, because it cannot be recorded: {escape(problem, 300)}",
            "say it again when it can: relayctl doctor",
        )


def _say_discards(verb: str, entries: "tuple[ArchiveEntry, ...]", *, as_json: bool) -> None:
    if as_json:
        print_json([{"file": entry.file, "rows": entry.rows, "bytes": entry.bytes} for entry in entries])
        return
    for entry in entries:
        click.echo(f"{verb}: {entry.file}, {entry.rows} rows, {size(entry.bytes)}")


def _settings(site: "Site") -> "Settings":
    from relay.site.policy import compiler

    return compiler.examine(site.path, now=int(time.time())).settings


def _zone(site: "Site") -> tzinfo:
    return zone_of(site.path)


def _time(text: str, zone: tzinfo) -> int:
    from relay.review.time_expression import instant

    try:
        return instant(text, _now(), zone)
    except InputRejected as error:
        raise click.UsageError(f"{error.what}; {error.hint}") from None


def _clock(us: int, zone: tzinfo) -> str:
    return clock(us, zone)[:19]


def _now() -> int:
    return time.time_ns() // 1000

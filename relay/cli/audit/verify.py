"""`relayctl audit verify`, `anchor` and `rows`: integrity, completeness and authenticity of the log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import click

from relay.cli import Context
from relay.cli.output import json_option, print_json
from relay.core.audit import anchor as anchors
from relay.core.audit import checkpoint
from relay.core.audit.anchor import Anchor
from relay.core.audit.log_verifier import Line
from relay.core.audit.verification_result import VerificationAnswer, VerificationResult
from relay.core.escape import escape
from relay.errors import InputRejected, RelayError, StoreUnavailable
from relay.site.locate import Site

_MOST_BYTES = 64 << 20  # of a file of anchors: one a minute for a year is 50 MB
_COLOURS = {"ok": "green", "restored": "yellow", "unproven": "yellow", "fault": "red"}
_Lines = Callable[[int], Iterator[Line]]
_STEP = 5000  # rows between two looks at the progress bar: some twenty a second


@click.command()
@click.option(
    "--key", "keys", multiple=True, metavar="PUB", help="The public key that `init` printed, or a file of it."
)
@click.option(
    "--anchor", "lines", multiple=True, metavar="LINE|FILE", help="What `audit anchor` printed some time ago."
)
@click.option("--copy", is_flag=True, help="This is a copy of the log: its signing keys are not expected here.")
@json_option
@click.pass_obj
def verify(context: Context, /, keys: tuple[str, ...], lines: tuple[str, ...], *, copy: bool, as_json: bool) -> int:
    """Prove that the audit log was not changed, that nothing is missing, and that this relay wrote it.

    Three results, each with the first row that contradicts it. Without --key the signatures can only be compared with
    each other. The first public key and an occasional anchor, kept elsewhere, reveal changes that root could conceal.
    Give a --key of its own for each key that a restored backup or a lost key brought. Archives are read too. Exit
    status 1 for any fault.

    \b
    Example:
      relayctl audit verify --key 7kR/YyfunhIT5+ayW230+dwTD6jYXaX4kxXJqWJ9ikI= --anchor /media/usb/anchors.txt
    """
    site = context.site()
    given = [key for text in keys for key in _keys(text)]
    result = verify_log(site, given, [one for text in lines for one in _anchors(text)], copy=copy)
    if as_json:
        print_json(result.as_json())
    else:
        _print_result(result)
    return 0 if result.good else 1


@click.command()
@json_option
@click.pass_obj
def anchor(context: Context, /, as_json: bool) -> int:
    """Print the newest row of the audit log as one short line, to be kept elsewhere.

    In a mail, in git, on paper: `audit verify --anchor LINE` then finds every row changed or removed since, even if
    all signatures were forged to match. `audit: {anchors: FILE}` (or syslog) in relay.yaml writes one for each
    checkpoint.

    \b
    Example:
      relayctl audit anchor | mail -s 'relay anchor' auditor@example.com
    """
    from relay.store.reader import AuditReader
    from relay.store.writer import FILE

    site = context.site()
    with AuditReader(site.state / FILE) as reader:
        row = next(iter(reader.after(reader.head() - 1)), None)
    if row is None:
        raise RelayError("the audit log has no row in its database", "relayctl serve writes the first one")
    found = anchors.anchor(row.node, row.seq, row.event.time, row.hash)
    if as_json:
        print_json({"anchor": str(found), "node": found.node, "row": found.seq, "hash": row.hash})
    else:
        click.echo(str(found))
    return 0


@click.command()
@click.option("--after", default=0, metavar="NUMBER", type=click.IntRange(0), help="Only rows behind this one.")
@click.pass_obj
def rows(context: Context, /, after: int) -> int:
    """Print every row as its hash covers it: the hash, a tab, and its canonical text.

    To verify the log without this program: docs/how-to/verify-the-audit-log.md.

    \b
    Example:
      relayctl audit rows > rows.txt
    """
    from relay.store.archive.archive_reader import ArchiveReader
    from relay.store.reader import AuditReader
    from relay.store.writer import FILE

    if sys.stdout.isatty():
        raise click.UsageError("this is for a file or a program: relayctl audit rows > rows.txt")
    state = context.site().state
    with AuditReader(state / FILE) as reader:
        for lines in (ArchiveReader(state).lines, reader.lines):
            for line in lines(after):
                after = line[0]  # the database goes on behind the archives
                click.echo(f"{line[5]}\t{line[6]}")
    return 0


# ---- what was given


def _keys(text: str) -> list[str]:
    """The public keys in an argument: one, or a file with one on each line (other lines are passed over)."""
    if checkpoint.is_key(text.strip()):
        return [text.strip()]
    found = [word for word in (_file(text) or "").split() if checkpoint.is_key(word)]
    if not found:
        raise click.BadParameter(
            f"{escape(text, 60)} is neither a public key nor a file with one; `relayctl init` prints it: 44 characters",
            param_hint="--key",
        )
    return found


def _anchors(text: str) -> tuple[Anchor, ...]:
    held = _file(text)
    try:
        return anchors.parse(text if held is None else held)
    except InputRejected as error:
        raise click.BadParameter(f"{error.what}; {error.hint}", param_hint="--anchor") from None


def _file(text: str) -> str | None:
    """What the file of this name holds; None when there is none."""
    try:
        with Path(text).open(encoding="utf-8", errors="replace") as file:
            return file.read(_MOST_BYTES)
    except (OSError, ValueError):
        return None


# ---- reading


def verify_log(site: Site, keys: list[str], given: list[Anchor], *, copy: bool = False) -> VerificationResult:
    """Read the whole log of a site, archives first: the three verdicts, with progress on a terminal."""
    from relay.core.audit.log_verifier import LogVerifier
    from relay.review.verify_log import ArchivePart, beside_archives, read
    from relay.store import signing_key
    from relay.store.archive.archive_reader import ArchiveReader
    from relay.store.reader import AuditReader
    from relay.store.writer import FILE

    # before the first row: whatever is sealed meanwhile leaves a newer key, never an older one
    live = None if copy else signing_key.seen(site.state)
    if live is None and not copy:
        click.echo(
            "it is not known whether the newest checkpoints are missing: "
            f"{site.state / signing_key.DIRECTORY} cannot be seen; run it as root or as the relay's user",
            err=True,
        )
    archives, problem = ArchiveReader(site.state), ""
    with AuditReader(site.state / FILE) as reader:
        before = dict([reader.base()])
        try:
            for entry in archives.entries():
                before |= {entry.first - 1: entry.prev, entry.last: entry.hash}
        except StoreUnavailable as error:
            problem = error.what
        before.pop(0, None)
        walk = LogVerifier(signing_key.proves, keys=keys, anchors=given, live=live, before=before)

        def parts() -> list[ArchivePart]:
            return [
                ArchivePart(entry.first, entry.last, entry.hash, partial(archives.lines, until=entry.last))
                for entry in (archives.entries() if not problem else ())
                if entry.kept
            ]

        if problem:
            walk.beside(problem)
        with _progress(reader.head()) as seen:
            read(
                walk,
                lambda: [replace(part, lines=_through(seen, part.lines)) for part in parts()],
                _through(seen, reader.lines),
            )
        ends = {entry.last: entry.hash for entry in (() if problem else archives.entries())}
        for what in filter(None, (beside_archives(reader.lines, reader.base, ends), *reader.mislaid())):
            walk.beside(what)
    return walk.end(now=_now_if_serving(site))


def _through(seen: Callable[[Iterator[Line]], Iterator[Line]], lines: _Lines) -> _Lines:
    return lambda after: seen(lines(after))


def _now_if_serving(site: Site) -> int | None:
    """This instant, if a relay serves; None if none does or it may not be asked."""
    from relay.serve import control_client

    try:
        control_client.call(site.state, {"do": "status"}, timeout=5)
    except RelayError:
        return None
    return time.time_ns() // 1000


@contextmanager
def _progress(rows: int) -> Iterator[Callable[[Iterator[Line]], Iterator[Line]]]:
    """Passes rows on, and shows on a terminal how far it is."""
    if not sys.stderr.isatty() or rows < _STEP:
        yield lambda lines: lines
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("rows"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("rows", total=rows)

        def seen(lines: Iterator[Line]) -> Iterator[Line]:
            for number, line in enumerate(lines, 1):
                yield line
                if number % _STEP == 0:
                    bar.advance(task, _STEP)

        yield seen


# ---- telling


def _print_result(result: VerificationResult) -> None:
    if not result.last:
        click.echo("the audit log has no row yet")
    else:
        click.echo(f"rows {result.first} to {result.last}, the newest of {_clock(result.time)}")
    for name, means, verdict in (
        ("integrity", "no row was changed", result.integrity),
        ("completeness", "no row is missing", result.completeness),
        ("authenticity", "this relay wrote it", result.authenticity),
    ):
        _tell_verdict(name, means, verdict)
    for line in result.lineages:
        given = ", as you gave it" if line.given else ""
        reason = f" ({line.reason})" if line.reason else ""
        click.echo(f"key       {line.key} from row {line.seq}{reason}: {line.epochs} checkpoints{given}")
    if result.sealed:
        click.echo(f"sealed    up to row {result.sealed}, {_clock(result.sealed_time)}")
    if result.last and result.unsealed:
        click.echo(f"          not yet sealed: {_rows(result.unsealed)}")
    if result.anchored:
        click.echo(f"anchored  up to row {result.anchored}")


def _tell_verdict(name: str, means: str, verdict: VerificationAnswer) -> None:
    state = click.style(f"{verdict.state:8}", fg=_COLOURS[verdict.state])
    more = {"ok": means, "unproven": verdict.unproven, "restored": "a backup was restored"}.get(verdict.state, "")
    click.echo(f"{state}  {name}: {more}" if more else f"{state}  {name}")
    for kind, findings in (("", verdict.faults), ("note: ", verdict.notes)):
        for one in findings:
            click.echo(f"          {kind}{f'row {one.seq}: ' if one.seq else ''}{escape(one.what, 400)}")
    if verdict.more:
        click.echo(f"          and {verdict.more} more")


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def _clock(us: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(us // 1_000_000))

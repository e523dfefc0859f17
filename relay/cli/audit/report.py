"""`relayctl audit report` and `digest`: the summary of a window as a page or as lines of news."""

import contextlib
import itertools
import os
import shlex
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from relay import atomic_file
from relay.cli import Context
from relay.cli.audit.options import zone_of
from relay.cli.output import json_option, print_json, progress
from relay.core.escape import escape
from relay.errors import InputRejected, RelayError

if TYPE_CHECKING:
    from relay.core.audit.hash_chain import Row
    from relay.core.policy.site_item import SiteItem
    from relay.review.activity_summary import ActivitySummary, ReportSpan
    from relay.review.digest import DigestItem
    from relay.review.first_seen import SeenItems
    from relay.review.row_source import Attempts
    from relay.site.locate import Site
    from relay.store.archive.archive_reader import ArchiveReader
    from relay.store.reader import AuditReader

_Command = TypeVar("_Command", bound=Callable[..., Any])
_MINUTE = 60_000_000
_STEP = 120  # minutes of attempt counts in one query: at most 81 rows each, and one result holds 10,000
_HEAD_BYTES = 4096  # at a file's beginning: MARK is in them if an earlier call wrote the file
_TRIES = 3  # archiving deletes rows every few minutes at most
_PROGRESS_ROWS = 500  # rows between two updates of the progress bar


@dataclass(frozen=True, slots=True)
class _Analysis:
    """The summary of a window of a site's log, and the items of the site."""

    site: "Site"
    summary: "ActivitySummary"
    past: "SeenItems"
    holdings: "tuple[SiteItem, ...] | None"  # None: the running configuration cannot be read
    policy: str
    node: str

    @property
    def is_log_new(self) -> bool:
        return not self.past.persons


def _until_option(command: _Command) -> _Command:
    until = click.option("--until", default="now", metavar="TIME", help="Up to this time; a day is included.")
    return until(command)


def _verify_option(command: _Command) -> _Command:
    verify = click.option("--verify/--no-verify", default=True, help="Whether the log is verified first, as a whole.")
    return verify(command)


def _language_option(command: _Command) -> _Command:
    lang = click.option("--lang", default="en", type=click.Choice(["en", "zh"]), help="English or Chinese.")
    return lang(command)


@click.command()
@click.option("--since", default="30d", show_default=True, metavar="TIME", help="From this time on: 7d, 2026-10-01 ...")
@_until_option
@click.option("--out", default="report.html", show_default=True, metavar="FILE", help="Where to; - is stdout.")
@_language_option
@_verify_option
@click.pass_obj
def report(context: Context, /, *, since: str, until: str, out: str, lang: str, verify: bool) -> int:
    """Make a page of who reached what: charts, what is new, what is unused.

    One HTML file for any browser: it requests nothing, opens offline, prints, and can be read on a phone. It holds
    everyone's names, addresses and times: mode 0600. A page that an earlier call made is
    replaced, any other file is not. The charts need the extra `report`.

    \b
    Example:
      relayctl audit report
      relayctl audit report --since 2026-10-01 --until 2026-10-31 --out october.html
      relayctl audit report --lang zh --out - >report.html
    """
    try:
        from relay.review.report.blocks import ReportData
        from relay.review.report.page import page
    except ImportError as error:
        if error.name not in ("pygal", "importlib_metadata", "jinja2", "markupsafe"):
            raise
        raise RelayError(
            "the report needs pygal and Jinja2, which are not installed",
            f"{shlex.quote(sys.executable)} -m pip install 'ssh-jump-relay[report]'; audit digest works without",
        ) from None
    from relay.review.digest import digest_items
    from relay.review.unused_items import unused_items

    target = None if out == "-" else _target(Path(out))
    analysis = _analyse(context, since, until)
    summary, verification = analysis.summary, _verify(analysis.site) if verify else ()
    data = ReportData(
        summary,
        [
            _with_site(context, item)
            for item in digest_items(summary, analysis.past, analysis.holdings or (), _faults(verification))
        ],
        None if analysis.holdings is None else unused_items(analysis.holdings, summary, analysis.past),
        str(analysis.site.path),
        analysis.node,
        analysis.policy,
        time.time_ns() // 1000,
        verification,
        is_log_new=analysis.is_log_new,
    )
    html = page(data, lang)
    if target is None:
        click.echo(html, nl=False)
        return 0
    _write(target, html.encode())
    click.echo(f"{target}: {summary.total.opened} forwards of {len(summary.persons)} people", err=True)
    return 0


@click.command()
@click.option("--since", default="7d", show_default=True, metavar="TIME", help="From this time on: 1d, yesterday ...")
@_until_option
@_language_option
@_verify_option
@click.option("--exit-code", is_flag=True, help="Exit status 1 when there is news.")
@json_option
@click.pass_obj
def digest(
    context: Context, /, *, since: str, until: str, lang: str, verify: bool, exit_code: bool, as_json: bool
) -> int:
    """Print the news of a window in a few lines, for cron; nothing when there is none.

    News is anything not seen before: a person, a key, the network it comes from, a target, a client program; many
    denials, scans, penalties, revocations, zones that broke, what ends within 14 days, and faults of the log itself.
    Below each line is the command that shows more; lines that need attention today begin with "!".

    \b
    Example:
      relayctl audit digest
      relayctl audit digest --since 1d --exit-code || echo 'look at the relay'
    """
    from relay.review.digest import HEADING, digest_items
    from relay.review.local_time import local_minute
    from relay.review.report.translations import Translator

    say = Translator(lang)
    analysis = _analyse(context, since, until)
    faults = _faults(_verify(analysis.site)) if verify else ()
    items = [
        _with_site(context, item)
        for item in digest_items(analysis.summary, analysis.past, analysis.holdings or (), faults)
    ]
    if as_json:
        shown = [{"kind": one.kind, "grave": one.grave, "text": one.text(say), "command": one.command} for one in items]
        print_json({"since": analysis.summary.window.since, "until": analysis.summary.window.until, "news": shown})
    elif items:
        window = analysis.summary.window
        since, until = local_minute(window.since, window.zone), local_minute(window.until, window.zone)
        click.echo(say(HEADING).format(node=escape(analysis.node), since=since, until=until, zone=window.zone))
        for item in items:
            text = item.text(say)
            click.echo(click.style(f"! {text}", fg="red") if item.grave else f"  {text}")
            click.echo(f"      {escape(item.command, 400)}")
    return 1 if items and exit_code else 0


# ---- reading


def _analyse(context: Context, since: str, until: str) -> _Analysis:
    """Read the window. Raises RelayError when the log is empty."""
    from relay.review.activity_collector import collect_activity
    from relay.review.activity_summary import HOUR, ReportSpan
    from relay.review.first_seen import SeenItems
    from relay.review.time_expression import instant
    from relay.store.archive.archive_reader import ArchiveReader
    from relay.store.reader import AuditReader
    from relay.store.writer import FILE

    site = context.site()
    zone = zone_of(site.path)
    now = time.time_ns() // 1000
    try:
        window = ReportSpan(instant(since, now, zone), min(instant(until, now, zone, end=True), now), zone)
    except InputRejected as error:
        raise click.UsageError(f"{error.what}; {error.hint}") from None
    if window.since >= window.until:
        raise click.UsageError("--since is not before --until, or it is yet to come")
    holdings, names, policy = _running_items(site)
    with AuditReader(site.state / FILE) as reader, progress("reading the audit log") as advance:
        for _ in range(_TRIES):
            base = reader.base()[0]
            rows = _Rows(reader, ArchiveReader(site.state), window)
            first = rows.first
            if first is None:
                raise RelayError("there is nothing in the audit log yet", "relayctl serve makes its first row")
            # no columns for years before the log; an hour, because rows are not quite in the order of their times
            window = replace(window, since=max(window.since, min(first.event.time - HOUR, window.until - 1)))
            past = SeenItems()
            for habit in reader.habits(rows.edge):
                past.meet(habit.fields, habit.last, denied=habit.denied)
            summary = collect_activity(
                rows.walk(advance),
                window,
                past,
                attempts=_attempts(reader, window),
                names=names,
                begins=first.event.time,
            )
            if reader.base()[0] == base:  # else rows went into an archive meanwhile, maybe before they were read
                break
    assert first is not None
    return _Analysis(site, summary, past, holdings, policy, first.node)


class _Rows:
    """The rows of a window and the older rows of the database; rows of archives as far as the window goes."""

    def __init__(self, reader: "AuditReader", archives: "ArchiveReader", window: "ReportSpan") -> None:
        self._reader, self._archives = reader, archives
        self._base, self._head = reader.base()[0], reader.head()
        self.edge = reader.edge(window.since)
        self.first = next(iter(reader.after(self._base, 1)), None)
        self._old = -1  # the archived row behind which the window may begin; -1: no archived row is in it
        if self._base and self.edge <= self._base:
            kept = [entry for entry in archives.entries() if entry.kept and entry.until >= window.since]
            if kept and kept[0].first <= self._base:
                self._old = kept[0].first - 1
                self.first = next(archives.walk(self._old, self._base), self.first)

    def walk(self, advance: Callable[[float], None]) -> "Iterator[Row]":
        """The rows of the window, and some older ones; `advance` is called with the share done."""
        start = self._old if self._old >= 0 else self.edge
        old = self._archives.walk(self._old, self._base) if self._old >= 0 else iter(())
        for row in itertools.chain(old, self._reader.walk(max(self.edge, self._base), self._head)):
            if row.seq % _PROGRESS_ROWS == 0:
                advance((row.seq - start) / max(self._head - start, 1))
            yield row


def _attempts(reader: "AuditReader", window: "ReportSpan") -> "list[Attempts]":
    first, last = window.since // _MINUTE, (window.until - 1) // _MINUTE
    steps = range(first, last + 1, _STEP)
    return list(itertools.chain.from_iterable(reader.strangers(at, min(at + _STEP - 1, last)) for at in steps))


def _running_items(site: "Site") -> "tuple[tuple[SiteItem, ...] | None, dict[tuple[str, str], str], str]":
    """The items of the running configuration, names of places, its version; empty, with a message, on failure."""
    from relay.core.policy.policy import EMPTY
    from relay.site import diff
    from relay.site.site_items import holdings

    try:
        applied = diff.read(site.state)
        policy = applied.policy() if applied is not None else EMPTY
    except RelayError as error:
        click.echo(f"what is unused is not known: {error.what}", err=True)
        return None, {}, ""
    if applied is None:
        return None, {}, ""
    hosts = policy.inventory.hosts.values()
    names = {(host.zone, str(host.address)): policy.inventory.spelling(host) for host in hosts}
    return holdings(applied.texts, policy, applied.keyring), names, policy.version


def _verify(site: "Site") -> "tuple[DigestItem, ...]":
    """The result of `audit verify` without keys and anchors from elsewhere."""
    from relay.cli.audit import verify
    from relay.review.verification_text import verification_items

    return verification_items(verify.verify_log(site, [], []))


def _faults(verification: "Sequence[DigestItem]") -> "list[DigestItem]":
    return [item for item in verification if item.kind == "fault"]


def _with_site(context: Context, item: "DigestItem") -> "DigestItem":
    """Commands name the site where it is not the usual one."""
    if not context.site_option or not item.command.startswith("relayctl "):
        return item
    command = item.command.replace("relayctl ", f"relayctl --site {shlex.quote(context.site_option)} ", 1)
    return replace(item, command=command)


# ---- writing


def _target(path: Path) -> Path:
    """Where the page goes. Raises RelayError when the path holds any other file, before any work is done."""
    from relay.review.report.page import MARK

    try:
        found = path.lstat()
    except FileNotFoundError:
        return path
    except OSError as error:
        raise RelayError(f"{path}: {error.strerror}", "name another place: --out FILE") from None
    if stat.S_ISDIR(found.st_mode):
        return _target(path / "report.html")
    ours = False
    if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid():
        with contextlib.suppress(OSError), path.open("rb") as file:
            ours = MARK.encode() in file.read(_HEAD_BYTES)
    if not ours:
        raise RelayError(
            f"{path} is there already and is no page that you made with this command",
            "name another place: --out FILE",
        )
    return path


def _write(path: Path, data: bytes) -> None:
    """Replace `path` in one step, mode 0600 from its first byte on."""
    try:
        atomic_file.replace(path, data)
    except OSError as error:
        raise RelayError(f"{path}: {error.strerror}", "name another place: --out FILE") from None

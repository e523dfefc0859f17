"""Parts that add-key, import-keys and revoke-key share: reading a key file, telling the running relay."""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import click

from relay.cli import audit_event
from relay.core.audit.event import Value
from relay.core.escape import escape
from relay.errors import InputRejected, RelayError
from relay.people.add import Addition
from relay.people.key_text import MOST_BYTES
from relay.site.locate import Site


def read_file(file: str) -> bytes:
    """The bytes of a file, or of standard input for `-`. Raises InputRejected."""
    try:
        if file == "-":
            if sys.stdin.isatty():
                click.echo("paste the public key, then press Enter and Ctrl-D", err=True)
            return sys.stdin.buffer.read(MOST_BYTES + 1)
        with Path(file).open("rb") as opened:
            return opened.read(MOST_BYTES + 1)
    except OSError as error:
        what = f"{escape(file, 200)}: {error.strerror}"
        raise InputRejected(what, "give the .pub file, or - and paste the key") from None


def record_added(site: Site, done: Iterable[Addition], *, quiet: bool = False) -> None:
    done = [addition for addition in done if addition.added]
    if not done:
        return
    rows: list[dict[str, Value]] = [
        {"person": key.person, "fingerprint": key.fingerprint, "file": key.file, "line": key.line}
        for addition in done
        for key in addition.added
    ]
    running = "" if quiet else "it is accepted from now on"
    send_change(site, [addition.person for addition in done], "key.added", rows, running=running)


def send_change(
    site: Site,
    persons: Iterable[str],
    name: str,
    rows: Iterable[Mapping[str, Value]],
    *,
    running: str,
    why: str = "",
) -> None:
    """Send the change to the running relay and record it; print failures, because the files are already written."""
    events = [audit_event.event(name, row, why) for row in rows]
    try:
        answer = audit_event.send(site, {"do": "apply-keys", "persons": list(persons)}, events)
    except RelayError as error:
        click.echo(f"the running relay was not notified: {error.what}; {error.hint}", err=True)
        return
    if not answer.get("ok"):
        click.echo(f"the running relay refused: {escape(str(answer.get('problem', '')), 300)}", err=True)
    elif answer.get("stopped"):
        click.echo("no relay is running; it takes effect at the next start", err=True)
    elif running:
        click.echo(running)
    if answer.get("ok") and answer.get("problem"):
        click.echo(
            f"it takes effect, but the audit row is not written: {escape(str(answer['problem']), 300)}", err=True
        )

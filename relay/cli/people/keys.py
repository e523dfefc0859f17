"""`relayctl add-key`, `import-keys`, `list-keys`, `revoke-key`: who gets in."""

import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from relay.cli import Context
from relay.cli.output import json_option, print_json, table
from relay.core.audit.event import Value
from relay.core.escape import escape
from relay.errors import InputRejected, RelayError

if TYPE_CHECKING:
    from relay.cli.config.config_in_force import ConfigInForce
    from relay.people.add import Addition
    from relay.people.revoke import KeyToRevoke, Revoked
    from relay.site.locate import Site

_REACH_SHOWN = 20  # lines of what a person may reach; `client-config` shows all


@click.command("add-key")
@click.argument("person")
@click.argument("file", default="-", metavar="[FILE|-]")
@click.pass_obj
def add_key(ctx: Context, person: str, file: str) -> None:
    """Let a person in with a public key.

    FILE holds one or several public keys (.pub, authorized_keys, RFC 4716); `-`, or nothing, reads them from standard
    input. Options in front of a key have OpenSSH's meaning and narrow what the policy allows. It takes effect at
    once; the policy's files are not touched and not reloaded.

    \b
    Example:
      relayctl add-key alice alice.pub
      relayctl add-key alice 'ssh-ed25519 AAAA... alice@laptop'
      ssh-keygen -y -f ~/.ssh/id_ed25519 | relayctl add-key alice -
    """
    from relay.cli.config import config_in_force
    from relay.people import add

    # the key itself in the place of its file: what people try first
    pasted = any(f" {start}" in f" {file}" for start in ("ssh-", "ecdsa-", "sk-")) and " " in file and "AAAA" in file
    data = file.encode() if pasted else _read(file)
    site = ctx.site(announce=True)
    known = config_in_force.of(site)
    added = add.add(
        site.path / "keys",
        person,
        data,
        known.files,
        source="-" if pasted else file,
        groups=known.groups,
        offsets=known.offsets,
        rsa_bits=known.rsa_bits,
    )
    _show_added(added, known)
    _applied(site, [added])
    _show_reach(known, person)


@click.command("import-keys")
@click.argument("file", metavar="FILE|-")
@click.option("--names", "names_file", metavar="MAP", help="Lines `FINGERPRINT-OR-COMMENT NAME`: whose is which key.")
@click.option("--yes", is_flag=True, help="Write; without it only shows what would be done.")
@json_option
@click.pass_obj
def import_keys(ctx: Context, file: str, names_file: str | None, yes: bool, as_json: bool) -> None:
    """Split an authorized_keys file into persons.

    A key's comment says whose it is (alice@laptop: alice), unless MAP does. First shows what would be done; each key
    that cannot be taken over is listed with its reason. Exit status 1 when there is none that can.

    \b
    Example:
      relayctl import-keys /home/jump/.ssh/authorized_keys
      relayctl import-keys /home/jump/.ssh/authorized_keys --names names.txt --yes
    """
    from relay.cli.config import config_in_force
    from relay.people import key_import

    data = _read(file)
    chosen = key_import.names(_read(names_file)) if names_file else {}
    site = ctx.site(announce=not as_json)
    known = config_in_force.of(site)
    directory = site.path / "keys"
    planned = key_import.plan(
        data,
        file,
        known.files,
        directory,
        chosen=chosen,
        groups=known.groups,
        offsets=known.offsets,
        rsa_bits=known.rsa_bits,
    )
    new = [entry for entry in planned.entries if not entry.already]
    if yes and new:
        _applied(site, key_import.write(directory, planned, known.files), quiet=as_json)
    if as_json:
        print_json(
            {
                "keys": [
                    {"person": entry.person, "fingerprint": entry.key.fingerprint, "line": entry.key.line}
                    | {"comment": entry.key.comment, "already": entry.already}
                    for entry in planned.entries
                ],
                "rejected": [
                    {"line": one.line, "comment": one.comment, "what": one.what, "cure": one.cure}
                    for one in planned.rejected
                ],
                "written": bool(yes and new),
            }
        )
    else:
        words = {False: "added" if yes else "new", True: "there already"}
        table(
            ("person", "fingerprint", "comment", "line", ""),
            [
                (entry.person, entry.key.fingerprint, entry.key.comment, entry.key.line, words[entry.already])
                for entry in planned.entries
            ],
        )
        for one in planned.rejected:
            click.echo(f"{escape(file, 200)}:{one.line}: not taken: {one.what}; {one.cure}", err=True)
            if one.comment:
                click.echo(f"  {escape(one.comment, 80)}", err=True)
        for name in planned.unused:
            click.echo(f"--names: {escape(name, 80)} is no key of this file", err=True)
        if new and not yes:
            click.echo("nothing was written; to do it, the same command with --yes", err=True)
    raise SystemExit(0 if planned.entries else 1)


@click.command("list-keys")
@json_option
@click.pass_obj
def list_keys(ctx: Context, as_json: bool) -> None:
    """List the keys and who owns them.

    With type, comment, limits and whether each gets in now; then the revoked ones with who, when and why. What is
    wrong with the files follows.

    \b
    Example:
      relayctl list-keys
      relayctl list-keys --json
    """
    from relay.cli.config import config_in_force
    from relay.people import key_listing

    known = config_in_force.of(ctx.site())
    listed = key_listing.rows(known.files, known.applied, int(time.time()))
    for note in known.notes:
        click.echo(f"note: {note}", err=True)
    if as_json:
        print_json(key_listing.as_json(known.files, listed))
        return
    present = [row for row in listed if row.state != key_listing.REVOKED]
    if present:
        table(
            ("person", "fingerprint", "type", "comment", "state", "limits"),
            [
                (
                    row.person,
                    row.fingerprint,
                    f"{row.type} {row.bits}",
                    row.comment,
                    row.state,
                    key_listing.limits(row, known.offsets),
                )
                for row in present
            ],
        )
    else:
        click.echo("no key gets in; let somebody in: relayctl add-key PERSON FILE.pub", err=True)
    gone = [row for row in listed if row.state == key_listing.REVOKED]
    if gone:
        click.echo("\nrevoked:" if present else "revoked:")
        table(
            ("fingerprint", "when", "by", "why"),
            [(row.fingerprint, row.revoked_when, row.revoked_by, row.revoked_why) for row in gone],
        )
    for row in present:
        if row.without_effect:
            effects = escape(", ".join(row.without_effect), 300)
            click.echo(f"{row.file}:{row.line}: without effect here: {effects}", err=True)
    for fault in known.files.warnings:
        click.echo(f"warning: {fault}", err=True)
    for fault in known.files.faults:
        click.echo(f"a key is out: {fault}", err=True)


@click.command("revoke-key")
@click.argument("who", metavar="PERSON|FINGERPRINT")
@click.option("--reason", default="", metavar="TEXT", help="Why; it stands in keys/revoked and in the audit.")
@click.option("--dry-run", is_flag=True, help="Only say which keys it would be, and who would be cut.")
@click.option("--json", "as_json", is_flag=True, help="With --dry-run: print JSON for programs.")
@click.pass_obj
def revoke_key(ctx: Context, who: str, reason: str, dry_run: bool, as_json: bool) -> None:
    """Shut a person or a key out, for ever.

    Works with a broken policy, a full disk and a stopped relay. Connections of the key end within a second. Says
    what is left to do elsewhere.

    \b
    Example:
      relayctl revoke-key alice --dry-run
      relayctl revoke-key alice --reason 'left the company'
      relayctl revoke-key SHA256:vEcMzYgo8WhTjTZok9jEg0pRWbxfGGdI9pCSV0cQ5Go
    """
    from relay.cli.config import config_in_force
    from relay.people import audit_actor, revoke
    from relay.site import key_files

    if as_json and not dry_run:
        raise click.UsageError("--json goes with --dry-run")
    site = ctx.site(announce=not as_json, narrowing=True)
    directory = site.path / "keys"
    files = key_files.read(site.path)
    try:
        condemned = revoke.find(directory, who, (files, *config_in_force.applied_keys(site)))
    except InputRejected:
        for mention in revoke.mentions(site.path, who):
            click.echo(f"has no key, but is named: {mention.file}:{mention.line}: {mention.text}", err=True)
        raise
    if dry_run:
        _foresee(site, condemned, as_json=as_json)
        return
    by = audit_actor.fields()
    done = revoke.revoke(
        directory, condemned, files.revocations, now=int(time.time()), who=audit_actor.word(by), why=reason
    )
    _show_revoked(done)
    if done.keys:
        where: dict[str, Value] = {"file": "keys/revoked"} if not done.commented else {}
        rows = [
            {"person": key.person or None, "fingerprint": key.fingerprint, "detail": done.means or None, **where}
            for key in done.keys
        ]
        _tell(site, (), "key.revoked", rows, why=reason, running="it is out now; its connections end within a second")
    _left_to_do(site, condemned)


def _read(file: str) -> bytes:
    """The bytes of a file, or of standard input for `-`. Raises InputRejected."""
    from relay.people.key_text import MOST_BYTES

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


def _show_added(done: "Addition", known: "ConfigInForce") -> None:
    from relay.core.keys.public_key import TYPE_NAMES
    from relay.people import key_listing

    for key in done.already:
        click.echo(f"already there: {done.person} {key.fingerprint} ({key.place})")
    for key in done.added:
        comment = f" {escape(key.comment, 80)}" if key.comment else ""
        click.echo(f"added: {done.person} {key.fingerprint} {TYPE_NAMES[key.algorithm]} {key.bits}{comment}")
        limits = key_listing.limits(key_listing.row_of(key, ""), known.offsets)
        if limits:
            click.echo(f"  limits of the key: {limits}")
        if key.without_effect:
            click.echo(f"  without effect here: {escape(', '.join(key.without_effect), 300)}", err=True)
    for warning in done.warnings:
        click.echo(f"warning: {warning}", err=True)


def _applied(site: "Site", done: Iterable["Addition"], *, quiet: bool = False) -> None:
    done = [one for one in done if one.added]
    if not done:
        return
    rows: list[dict[str, Value]] = [
        {"person": key.person, "fingerprint": key.fingerprint, "file": key.file, "line": key.line}
        for one in done
        for key in one.added
    ]
    running = "" if quiet else "it gets in from now on"
    _tell(site, [one.person for one in done], "key.added", rows, running=running)


def _tell(
    site: "Site",
    persons: Iterable[str],
    name: str,
    rows: Iterable[Mapping[str, Value]],
    *,
    running: str,
    why: str = "",
) -> None:
    """Tell the running relay and leave the rows; whatever fails here is said, for the files are written already."""
    from relay.cli import audit_event

    events = [audit_event.event(name, row, why) for row in rows]
    try:
        answer = audit_event.tell(site, {"do": "apply-keys", "persons": list(persons)}, events)
    except RelayError as error:
        click.echo(f"the running relay was not told: {error.what}; {error.hint}", err=True)
        return
    if not answer.get("ok"):
        click.echo(f"the running relay refused: {escape(str(answer.get('problem', '')), 300)}", err=True)
    elif answer.get("stopped"):
        click.echo("no relay is running; it holds from the next start on", err=True)
    elif running:
        click.echo(running)
    if answer.get("ok") and answer.get("problem"):
        click.echo(f"it holds, but the audit row is not written: {escape(str(answer['problem']), 300)}", err=True)


def _show_reach(known: "ConfigInForce", person: str) -> None:
    for note in known.notes:
        click.echo(f"note: {note}", err=True)
    places = known.reach(person)
    if not places:
        click.echo(f"{person} may reach nothing yet: name {person} in a rule or group, then relayctl reload")
        return
    click.echo(f"{person} may reach now:")
    for place in places[:_REACH_SHOWN]:
        click.echo(f"  {place}")
    if len(places) > _REACH_SHOWN:
        click.echo(f"  and {len(places) - _REACH_SHOWN} more: relayctl client-config {person}")


def _show_revoked(done: "Revoked") -> None:
    for gone in done.already:
        click.echo(f"already revoked: {gone.fingerprint} ({gone.file}:{gone.line})")
    for key in done.keys:
        whose = f" of {escape(key.person, 40)}" if key.person else ", which nobody has now"
        click.echo(f"revoked: {key.fingerprint}{whose}")
    for seen in done.commented:
        click.echo(f"  {seen.file}:{seen.line} is a comment now", err=True)
    if done.means:
        click.echo(done.means, err=True)


def _foresee(site: "Site", condemned: tuple["KeyToRevoke", ...], *, as_json: bool) -> None:
    from relay.cli.running import impact, open_sessions

    if as_json:
        keys = [{"fingerprint": key.fingerprint, "person": key.person or None} for key in condemned]
        try:
            there = open_sessions.ask(site, {"do": "connections"})
            ended = list(impact.of_keys(there, [key.fingerprint for key in condemned]))
            print_json({"keys": keys, "cut": impact.as_json(ended), "silent_workers": list(there.silent)})
        except RelayError as error:
            print_json({"keys": keys, "cut": None, "problem": error.what})  # not known is not nobody
        return
    for key in condemned:
        whose = f" of {escape(key.person, 40)}" if key.person else ", which nobody has now"
        click.echo(f"would be revoked: {key.fingerprint}{whose}")
    try:
        there = open_sessions.ask(site, {"do": "connections"})
        impact.show(list(impact.of_keys(there, [key.fingerprint for key in condemned])), there)
    except RelayError as error:  # a revocation needs no relay that answers
        click.echo(f"who would be cut is not known: {error.what}", err=True)
    click.echo("nothing was revoked", err=True)


def _left_to_do(site: "Site", condemned: tuple["KeyToRevoke", ...]) -> None:
    from relay.people import revoke
    from relay.site import key_files

    click.echo("left to do:")
    remaining = {key.person for key in key_files.read(site.path).keys.values()}
    persons = sorted({key.person for key in condemned if key.person})
    for person in persons:
        if person in remaining:
            click.echo(f"  {person} has other keys and still gets in with them: relayctl list-keys")
            continue
        for mention in revoke.mentions(site.path, person):
            click.echo(f"  the policy still names {person}: {mention.file}:{mention.line}: {mention.text}")
    click.echo("  on each LAN host, for each user: remove the key from ~/.ssh/authorized_keys")
    for key in condemned:
        if key.encoded:
            click.echo(f"    sed -i '\\|{key.encoded}|d' ~/.ssh/authorized_keys")
        else:
            click.echo(f"    ssh-keygen -l -f ~/.ssh/authorized_keys | grep {key.fingerprint}")
    whose = " or ".join(persons) or "its owner"
    click.echo(f"  if a device of {whose} is a member of the ZeroTier network: deauthorise it at its controller")

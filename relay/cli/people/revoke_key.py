"""`relayctl revoke-key`."""

import time

import click

from relay.cli import Context
from relay.cli.config import config_in_force
from relay.cli.output import print_json
from relay.cli.people.key_change import send_change
from relay.cli.running import impact, open_sessions
from relay.core.audit.event import Value
from relay.core.escape import escape
from relay.errors import InputRejected, RelayError
from relay.people import audit_actor, revoke
from relay.people.revoke import KeyToRevoke, Revoked
from relay.site import key_files
from relay.site.locate import Site


@click.command("revoke-key")
@click.argument("who", metavar="PERSON|FINGERPRINT")
@click.option("--reason", default="", metavar="TEXT", help="The reason, recorded in keys/revoked and in the audit log.")
@click.option("--dry-run", is_flag=True, help="Only show the keys, and which sessions would end.")
@click.option("--json", "as_json", is_flag=True, help="With --dry-run: print JSON for programs.")
@click.pass_obj
def revoke_key(ctx: Context, who: str, reason: str, dry_run: bool, as_json: bool) -> None:
    """Revoke a person's keys, or one key, for ever.

    Works with a broken policy, a full disk and a stopped relay. Connections of the key end within a second.
    Prints what remains to be done elsewhere.

    \b
    Example:
      relayctl revoke-key alice --dry-run
      relayctl revoke-key alice --reason 'left the company'
      relayctl revoke-key SHA256:vEcMzYgo8WhTjTZok9jEg0pRWbxfGGdI9pCSV0cQ5Go
    """
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
        _show_dry_run(site, condemned, as_json=as_json)
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
        send_change(
            site, (), "key.revoked", rows, why=reason, running="it is revoked now; its connections end within a second"
        )
    _show_remaining_work(site, condemned)


def _show_revoked(done: Revoked) -> None:
    for gone in done.already:
        click.echo(f"already revoked: {gone.fingerprint} ({gone.file}:{gone.line})")
    for key in done.keys:
        whose = f" of {escape(key.person, 40)}" if key.person else ", which no person has now"
        click.echo(f"revoked: {key.fingerprint}{whose}")
    for seen in done.commented:
        click.echo(f"  {seen.file}:{seen.line} is a comment now", err=True)
    if done.means:
        click.echo(done.means, err=True)


def _show_dry_run(site: Site, condemned: tuple[KeyToRevoke, ...], *, as_json: bool) -> None:
    if as_json:
        keys = [{"fingerprint": key.fingerprint, "person": key.person or None} for key in condemned]
        try:
            there = open_sessions.query(site, {"do": "connections"})
            ended = list(impact.impact_of_keys(there, [key.fingerprint for key in condemned]))
            print_json({"keys": keys, "cut": impact.as_json(ended), "silent_workers": list(there.silent)})
        except RelayError as error:
            print_json({"keys": keys, "cut": None, "problem": error.what})  # unknown, which is not the same as none
        return
    for key in condemned:
        whose = f" of {escape(key.person, 40)}" if key.person else ", which no person has now"
        click.echo(f"would be revoked: {key.fingerprint}{whose}")
    try:
        there = open_sessions.query(site, {"do": "connections"})
        impact.print_impact(list(impact.impact_of_keys(there, [key.fingerprint for key in condemned])), there)
    except RelayError as error:  # a revocation works without a running relay
        click.echo(f"the affected sessions are unknown: {error.what}", err=True)
    click.echo("nothing was revoked", err=True)


def _show_remaining_work(site: Site, condemned: tuple[KeyToRevoke, ...]) -> None:
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

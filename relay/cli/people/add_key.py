"""`relayctl add-key`."""

import click

from relay.cli import Context
from relay.cli.config import config_in_force
from relay.cli.config.config_in_force import ConfigInForce
from relay.cli.people.key_change import read_file, record_added
from relay.core.escape import escape
from relay.core.keys.public_key import TYPE_NAMES
from relay.people import add, key_listing
from relay.people.add import Addition

_REACH_SHOWN = 20  # targets; `client-config` shows all


@click.command("add-key")
@click.argument("person")
@click.argument("file", default="-", metavar="[FILE|-]")
@click.pass_obj
def add_key(ctx: Context, person: str, file: str) -> None:
    """Let a person in with a public key.

    FILE holds one or several public keys (.pub, authorized_keys, RFC 4716); `-`, or no FILE, reads standard
    input. Options before a key have OpenSSH's meaning and narrow what the policy allows. Takes effect at once; the
    policy is neither changed nor reloaded.

    \b
    Example:
      relayctl add-key alice alice.pub
      relayctl add-key alice 'ssh-ed25519 AAAA... alice@laptop'
      ssh-keygen -y -f ~/.ssh/id_ed25519 | relayctl add-key alice -
    """
    # the key itself instead of a file, a common mistake that works
    pasted = any(f" {start}" in f" {file}" for start in ("ssh-", "ecdsa-", "sk-")) and " " in file and "AAAA" in file
    data = file.encode() if pasted else read_file(file)
    site = ctx.site(announce=True)
    known = config_in_force.load(site)
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
    record_added(site, [added])
    _show_reach(known, person)


def _show_added(done: Addition, known: ConfigInForce) -> None:
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


def _show_reach(known: ConfigInForce, person: str) -> None:
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

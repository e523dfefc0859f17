"""`relayctl list-keys`."""

import time

import click

from relay.cli import Context
from relay.cli.config import config_in_force
from relay.cli.output import json_option, print_json, table
from relay.core.escape import escape
from relay.people import key_listing


@click.command("list-keys")
@json_option
@click.pass_obj
def list_keys(ctx: Context, as_json: bool) -> None:
    """List the keys and who owns them.

    Shows type, comment, limits and state of each key; then the revoked keys with author, time and reason; then the
    faults of the files.

    \b
    Example:
      relayctl list-keys
      relayctl list-keys --json
    """
    known = config_in_force.load(ctx.site())
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
        click.echo("there is no valid key; add one: relayctl add-key PERSON FILE.pub", err=True)
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
        click.echo(f"a key is not accepted: {fault}", err=True)

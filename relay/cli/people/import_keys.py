"""`relayctl import-keys`."""

import click

from relay.cli import Context
from relay.cli.config import config_in_force
from relay.cli.output import json_option, print_json, table
from relay.cli.people.key_change import read_file, record_added
from relay.core.escape import escape
from relay.people import key_import


@click.command("import-keys")
@click.argument("file", metavar="FILE|-")
@click.option(
    "--names", "names_file", metavar="MAP", help="Lines `FINGERPRINT-OR-COMMENT NAME`: the person of each key."
)
@click.option("--yes", is_flag=True, help="Write; without it only the result is shown.")
@json_option
@click.pass_obj
def import_keys(ctx: Context, file: str, names_file: str | None, yes: bool, as_json: bool) -> None:
    """Split an authorized_keys file into persons.

    A key's comment names its person (alice@laptop: alice), unless MAP does. Without --yes only shows the result; each
    key that cannot be imported is listed with the reason. Exit status 1 if no key can be imported.

    \b
    Example:
      relayctl import-keys /home/jump/.ssh/authorized_keys
      relayctl import-keys /home/jump/.ssh/authorized_keys --names names.txt --yes
    """
    data = read_file(file)
    chosen = key_import.names(read_file(names_file)) if names_file else {}
    site = ctx.site(announce=not as_json)
    known = config_in_force.load(site)
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
        record_added(site, key_import.write(directory, planned, known.files), quiet=as_json)
    if as_json:
        print_json(
            {
                "keys": [
                    {"person": entry.person, "fingerprint": entry.key.fingerprint, "line": entry.key.line}
                    | {"comment": entry.key.comment, "already": entry.already}
                    for entry in planned.entries
                ],
                "rejected": [
                    {"line": rejected.line, "comment": rejected.comment, "what": rejected.what, "cure": rejected.cure}
                    for rejected in planned.rejected
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
        for rejected in planned.rejected:
            click.echo(f"{escape(file, 200)}:{rejected.line}: not imported: {rejected.what}; {rejected.cure}", err=True)
            if rejected.comment:
                click.echo(f"  {escape(rejected.comment, 80)}", err=True)
        for name in planned.unused:
            click.echo(f"--names: {escape(name, 80)} matches no key of this file", err=True)
        if new and not yes:
            click.echo("nothing was written; to write, add --yes", err=True)
    raise SystemExit(0 if planned.entries else 1)

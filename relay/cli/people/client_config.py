"""`relayctl client-config`: what a person puts into their SSH client."""

import difflib

import click

from relay.cli import Context
from relay.cli.output import json_option, print_json
from relay.core.escape import escape
from relay.errors import InputRejected, RelayError


@click.command("client-config")
@click.argument("person")
@click.option("--os", "system", type=click.Choice(["linux", "macos", "windows"]), default="linux", help="The client's.")
@click.option("--putty", is_flag=True, help="Lines for PuTTY and plink instead.")
@click.option("--known-hosts", "only_known_hosts", is_flag=True, help="Only the lines for known_hosts.")
@click.option("--login", default="", metavar="NAME", help="The login name at the relay (else the person's name).")
@json_option
@click.pass_obj
def client_config(
    ctx: Context, *, person: str, system: str, putty: bool, only_known_hosts: bool, login: str, as_json: bool
) -> None:
    """Print a person's ssh configuration.

    The relay with its pinned key, and each host this person may reach now; what to tell VS Code and Ansible is in the
    comments.

    \b
    Example:
      relayctl client-config alice
      relayctl client-config alice --os windows
      relayctl client-config alice --known-hosts >> ~/.ssh/known_hosts
    """
    from relay.cli.config import config_in_force
    from relay.core.policy.target import parse_spec
    from relay.people import client_config as configs
    from relay.store import host_keys

    site = ctx.site()
    known = config_in_force.of(site)
    if person not in known.persons():
        near = difflib.get_close_matches(person, known.persons(), n=1)
        raise InputRejected(
            f"nobody is called {escape(person, 80)!r}",
            f"did you mean {near[0]}?" if near else "see: relayctl list-keys",
        )
    for note in known.notes:
        click.echo(f"note: {note}", err=True)
    if not known.policy.public:
        raise RelayError(
            "the site does not say how people reach the relay",
            "set it in relay.yaml, like `public: relay.example.com:22`, then: relayctl reload",
        )
    one = configs.client(
        person,
        parse_spec(known.policy.public),
        host_keys=tuple((key.public, key.fingerprint) for key in host_keys.load(site.state)),
        keys=known.files.of(person),
        places=known.reach(person),
        login=login,
    )
    if as_json:
        print_json(configs.as_json(one))
    elif only_known_hosts:
        for line in configs.known_hosts(one):
            click.echo(line)
    else:
        click.echo(configs.putty(one) if putty else configs.config(one, windows=system == "windows"), nl=False)

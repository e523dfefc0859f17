"""`relayctl client-config`: the SSH client configuration of a person."""

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

    The relay with its pinned key, and each host this person may reach now; settings for VS Code and Ansible
    are in the comments.

    \b
    Example:
      relayctl client-config alice
      relayctl client-config alice --os windows
      relayctl client-config alice --known-hosts >> ~/.ssh/known_hosts
    """
    import relay.people.client_config
    from relay.cli.config import config_in_force
    from relay.core.policy.target import parse_spec
    from relay.store import host_keys

    site = ctx.site()
    known = config_in_force.load(site)
    if person not in known.persons():
        near = difflib.get_close_matches(person, known.persons(), n=1)
        raise InputRejected(
            f"there is no person {escape(person, 80)!r}",
            f"did you mean {near[0]}?" if near else "see: relayctl list-keys",
        )
    for note in known.notes:
        click.echo(f"note: {note}", err=True)
    if not known.policy.public:
        raise RelayError(
            "relay.yaml has no `public`, the address for clients",
            "set it in relay.yaml, like `public: relay.example.com:22`, then: relayctl reload",
        )
    configuration = relay.people.client_config.make_client(
        person,
        parse_spec(known.policy.public),
        host_keys=tuple((key.public, key.fingerprint) for key in host_keys.load(site.state)),
        keys=known.files.of(person),
        places=known.reach(person),
        login=login,
    )
    if as_json:
        print_json(relay.people.client_config.as_json(configuration))
    elif only_known_hosts:
        for line in relay.people.client_config.known_hosts(configuration):
            click.echo(line)
    else:
        windows = system == "windows"
        text = relay.people.client_config.config(configuration, windows=windows)
        click.echo(relay.people.client_config.putty(configuration) if putty else text, nl=False)

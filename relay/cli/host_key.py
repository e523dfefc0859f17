"""`relayctl host-key`: the host keys of the relay."""

from pathlib import Path

import click

from relay.cli import Context
from relay.cli.output import json_option, print_json, table


@click.group("host-key")
def host_key() -> None:
    """List, add and retire the relay's host keys.

    All keys in force are announced to clients that have logged in (UpdateHostKeys in ssh_config(5)), so a new key can
    be added weeks before the old one is retired. A running relay uses changed keys after a restart.

    \b
    Example:
      relayctl host-key add
      relayctl host-key list
      relayctl host-key retire SHA256:Wq...
    """


@host_key.command("list")
@json_option
@click.pass_obj
def list_(ctx: Context, as_json: bool) -> None:
    """List the host keys in force.

    \b
    Example:
      relayctl host-key list
    """
    from relay.store import host_keys

    keys = host_keys.load(ctx.site().state)
    if as_json:
        print_json(
            [
                {"name": key.name, "algorithm": key.algorithm, "fingerprint": key.fingerprint, "public": key.public}
                for key in keys
            ]
        )
    else:
        table(("name", "algorithm", "fingerprint"), [(key.name, key.algorithm, key.fingerprint) for key in keys])
    raise SystemExit(0 if keys else 1)


@host_key.command("add")
@click.argument("files", metavar="[FILE]...", nargs=-1, type=click.Path(path_type=Path))
@click.pass_obj
def add(ctx: Context, files: tuple[Path, ...]) -> None:
    """Make a new Ed25519 host key, or take over the private keys in FILEs (sshd's).

    \b
    Example:
      sudo relayctl host-key add /etc/ssh/ssh_host_ed25519_key /etc/ssh/ssh_host_ecdsa_key
    """
    from relay.store import host_keys

    site = ctx.site(announce=True)
    site.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    before = {key.fingerprint for key in host_keys.load(site.state)}
    keys = host_keys.take_over(site.state, files) if files else (host_keys.make(site.state),)
    for key in keys:
        if key.fingerprint in before:
            click.echo(f"already there: {key.algorithm} {key.fingerprint}")
            continue
        click.echo(f"added {key.algorithm} {key.fingerprint}")
        _record(ctx, "host_key.added", key)
    click.echo("the relay offers it after: systemctl restart relay")


@host_key.command("retire")
@click.argument("key", metavar="FINGERPRINT|NAME")
@click.pass_obj
def retire(ctx: Context, key: str) -> None:
    """Retire a host key; its files are kept in host_keys/retired.

    \b
    Example:
      relayctl host-key retire nistp256
    """
    from relay.store import host_keys

    retired = host_keys.retire(ctx.site(announce=True).state, key)
    click.echo(f"retired {retired.algorithm} {retired.fingerprint}; the relay stops offering it after a restart")
    click.echo("clients that know only this key will warn about a changed key: ssh-keygen -R '[HOST]:PORT'")
    _record(ctx, "host_key.retired", retired)


def _record(ctx: Context, name: str, key: object) -> None:
    from relay.cli import audit_event
    from relay.store.host_keys import HostKey

    assert isinstance(key, HostKey)
    problem = audit_event.record(ctx.site(), name, {"fingerprint": key.fingerprint, "algorithm": key.algorithm})
    if problem:
        click.echo(f"relayctl: done, but not recorded: {problem}", err=True)

"""`relayctl backup` and `relayctl restore`: site, keys, host keys and audit log in one file."""

import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from relay import __version__
from relay.cli import Context


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.pass_obj
def backup(ctx: Context, file: Path) -> None:
    """Save the site and its state to one file.

    Holds the private host keys, so the file is readable by its owner only; the relay may run meanwhile.

    \b
    Example:
      sudo relayctl backup /root/relay-2026-11-23.tar.gz
    """
    from relay.cli import audit_event
    from relay.store.backup import make

    site = ctx.site(announce=True)
    contents = make(site.path, site.state, file, __version__)
    click.echo(f"saved {len(contents.files)} files to {file}")
    problem = audit_event.record(site, "backup.made", {"file": str(file), "detail": f"{len(contents.files)} files"})
    if problem:
        click.echo(f"relayctl: done, but not recorded: {problem}", err=True)


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def restore(ctx: Context, file: Path, yes: bool) -> None:
    """Bring a backup back.

    The relay must be stopped and the site's directory must exist (relayctl init DIR makes one). Existing files are
    moved aside, not deleted. The host keys stay the same. The audit log continues with a new signing key, which is
    printed: a backup does not contain the old one.

    \b
    Example:
      sudo systemctl stop relay relay.socket
      sudo relayctl restore /root/relay-2026-11-23.tar.gz
    """
    import relay.store.backup
    from relay.cli import audit_event
    from relay.store import checkpoint_state, signing_key
    from relay.store.writer import FILE

    site = ctx.site(announce=True)
    if not yes and not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to confirm on; use --yes")
    if not yes:
        click.confirm(f"replace what is in {site.path} and {site.state}", abort=True)
    keys: list[str] = []

    def unpacked(contents: relay.store.backup.Contents, state: Path) -> None:
        made = datetime.fromtimestamp(contents.made, UTC).isoformat()
        row = audit_event.event("backup.restored", {"file": str(file), "detail": f"made {made}"})
        signer = checkpoint_state.begin(
            site.state, state / FILE, node=audit_event.NODE, reason="restored", event=audit_event.event, before=[row]
        )
        keys.append(signer.public)

    contents, moved = relay.store.backup.restore(file, site.path, site.state, unpacked)
    # the keys of the log that was moved aside: no more checkpoints of it can be signed
    signing_key.erase(site.state, keep=keys)
    for path in moved:
        click.echo(f"moved aside: {path}")
    click.echo(f"restored {len(contents.files)} files, saved by version {contents.version}")
    click.echo(f"audit key {keys[0]} signs from here on: keep it elsewhere, beside the first one")

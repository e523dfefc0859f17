"""`relayctl serve`: becomes the supervisor process, which imports far less than a command does."""

import os
import sys

import click

from relay.cli import Context
from relay.errors import NotPermitted


@click.command()
@click.pass_obj
def serve(ctx: Context) -> None:
    """Run the relay.

    Serves until SIGTERM or Ctrl-C (twice: at once); SIGHUP is `relayctl reload`. A host key is made on the first
    start. Under systemd relay.socket holds the listening sockets, and open connections outlive a restart.

    \b
    Example:
      relayctl --site /etc/relay serve
    """
    from relay.store import host_keys

    site = ctx.site()
    site.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    owner = site.state.stat().st_uid
    if os.geteuid() == 0 and owner != 0:  # files that root creates there would keep the service from starting
        raise NotPermitted(
            f"{site.state} belongs to user {owner}, not to root",
            f"systemctl start relay, or: sudo -u '#{owner}' relayctl --site {site.path} serve",
        )
    host_keys.ensure(site.state)
    sys.stdout.flush()
    command = [sys.executable, "-P", "-m", "relay.serve.supervisor", str(site.path)]
    os.execv(sys.executable, command)  # noqa: S606 - this program, no shell

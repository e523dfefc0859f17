"""`relayctl serve`: becomes the supervisor process, which imports far less than a command does."""

import os
import sys

import click

from relay.cli import Context
from relay.errors import NotPermitted


@click.command()
@click.option("--take-over", is_flag=True, help="Take everything over from the relay that runs on this site.")
@click.option("--adopt-log", is_flag=True, hidden=True)  # `relayctl upgrade`: write where the one before wrote
@click.pass_obj
def serve(ctx: Context, take_over: bool, adopt_log: bool) -> None:
    """Run the relay.

    Serves until SIGTERM or Ctrl-C (twice: at once); SIGHUP is `relayctl reload`. A host key is made on the first
    start. Under systemd the listening sockets are those of relay.socket, and connections outlive a restart; without
    it --take-over does the same: the relay that runs serves until this one can, gives it the listening sockets, and
    ends, and its workers go on with their connections. `relayctl upgrade` does whichever of the two fits.

    \b
    Example:
      relayctl --site /etc/relay serve
      relayctl --site /etc/relay serve --take-over
    """
    from relay.store import host_keys

    site = ctx.site()
    site.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    owner = site.state.stat().st_uid
    if os.geteuid() == 0 and owner != 0:  # what it made there (applied, run) would keep the service from starting
        raise NotPermitted(
            f"{site.state} belongs to user {owner}, not to root",
            f"systemctl start relay, or: sudo -u '#{owner}' relayctl --site {site.path} serve",
        )
    host_keys.ensure(site.state)
    sys.stdout.flush()
    words = [sys.executable, "-P", "-m", "relay.serve.supervisor", str(site.path)]
    words += ["--take-over"] * take_over + ["--adopt-log"] * adopt_log
    os.execv(sys.executable, words)  # noqa: S606 - ourselves, no shell

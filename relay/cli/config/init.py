"""`relayctl init`: makes a new site, and for production the systemd units around it."""

import os
from pathlib import Path

import click

from relay.errors import NotPermitted, RelayError
from relay.site.init import CandidateRoute, FileOwner, give, make


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--systemd", is_flag=True, help="Also make the service user and write the systemd units (as root).")
@click.option(
    "--host-key",
    "host_keys",
    metavar="FILE",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Take over this private host key (of sshd); may be given several times.",
)
def init(directory: Path, systemd: bool, host_keys: tuple[Path, ...]) -> None:
    """Make a new site.

    Writes relay.yaml, policies/ with zones from the kernel's routes over overlay interfaces, keys/, JSON Schemas for
    editors, a host key, and the first signing key of the audit log. Keep the printed public key elsewhere: audit
    verify needs it. Existing files are kept, so a second run only adds what is missing.

    \b
    Example:
      relayctl init mysite
      sudo relayctl init /etc/relay --systemd --host-key /etc/ssh/ssh_host_ed25519_key
    """
    from relay.site import locate, systemd_units

    path = Path(os.path.abspath(directory))  # noqa: PTH100 - a link stays a link
    click.echo(f"site {path}", err=True)
    if systemd and os.geteuid() != 0:
        raise NotPermitted("only root can write systemd units and make users", "sudo relayctl init ... --systemd")
    done = list(make(path, _routes()))
    if systemd:
        state = locate.state_directory(path, locate.scan_state(path))
        done += _systemd(path, state)
    owner = _owner()
    if owner is not None and (systemd or path == locate.SYSTEM):
        done += give(path, owner)
    site = locate.find(str(path), {})
    done += _state(site.state, host_keys)
    done += _audit_key(site.state)
    for line in done:
        click.echo(line)
    steps = [*systemd_units.NEXT_STEPS] if systemd else []
    click.echo("next:", err=True)
    option = "" if path == locate.SYSTEM else f" --site {path}"
    for step in (f"relayctl{option} add-key PERSON FILE.pub", f"relayctl{option} check", *steps):
        click.echo(f"  {step}", err=True)


def _routes() -> list[CandidateRoute]:
    """The kernel's routes; none if they cannot be read (not Linux, a sandbox)."""
    from relay.net.kernel import route_guard

    try:
        return [CandidateRoute(route.network, route.gateway, route.interface) for route in route_guard.routes()]
    except (OSError, RelayError) as error:
        click.echo(f"no zones are proposed: the routes cannot be read ({error})", err=True)
        return []


def _owner() -> FileOwner | None:
    """root and the service's group, if root runs this and the group exists."""
    import grp

    from relay.site import systemd_units

    if os.geteuid() != 0:
        return None
    try:
        return FileOwner(0, grp.getgrnam(systemd_units.USER).gr_gid)
    except KeyError:
        return None


def _systemd(path: Path, state: Path) -> list[str]:
    from relay.site import systemd_units
    from relay.site.policy import compiler

    settings = compiler.load(path, now=0).settings
    # before the user: systemd-sysusers makes it from the description written here
    texts = systemd_units.render(
        settings.listen, site=path, state=state, program=systemd_units.program(), stop=settings.limits.stop
    )
    done = [f"wrote {changed}" for changed in systemd_units.write(texts)]
    if systemd_units.make_user():
        done.append(f"made the user {systemd_units.USER}")
    return done


def _state(state: Path, files: tuple[Path, ...]) -> list[str]:
    """The state directory, owned by the service user if there is one, and its host keys."""
    import pwd

    from relay.site import systemd_units
    from relay.store import host_keys

    done = []
    try:
        if not state.exists():
            state.mkdir(mode=0o700, parents=True)
            done.append(f"made {state}")
            if os.geteuid() == 0:
                try:
                    user = pwd.getpwnam(systemd_units.USER)
                    os.chown(state, user.pw_uid, user.pw_gid)
                except KeyError:
                    pass  # no service user: the current user runs the service
    except OSError as error:
        raise NotPermitted(f"{state}: {error.strerror}", "run it with sudo, or set `state:` in relay.yaml") from None
    before = {key.fingerprint for key in host_keys.load(state)}
    if files:
        host_keys.take_over(state, files)
    keys = host_keys.ensure(state)
    taken = "took over" if files else "made"
    return done + [f"{'kept' if key.fingerprint in before else taken} host key {key.fingerprint}" for key in keys]


def _audit_key(state: Path) -> list[str]:
    """The signing key of a new audit log, announced in its first row; an existing log is left alone."""
    from relay.cli import audit_event
    from relay.store import checkpoint_state
    from relay.store.writer import FILE

    if (state / FILE).exists():
        return []
    try:
        signer = checkpoint_state.begin(
            state, state / FILE, node=audit_event.NODE, reason="init", event=audit_event.event
        )
    except (RelayError, OSError) as error:  # the relay makes it at its start
        return [f"no audit key yet: {error}"]
    return [f"made audit key {signer.public}", f"  keep it elsewhere: relayctl audit verify --key {signer.public}"]

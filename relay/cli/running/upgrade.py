"""`relayctl upgrade`: check the new version, restart the service through systemd, report what was kept."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click

from relay.cli import Context
from relay.cli.output import waiting
from relay.core.escape import escape
from relay.errors import RelayError, RelayNotRunning
from relay.site.locate import Site

CHECK_SECONDS = 120.0
READY_SECONDS = 320.0  # more than the unit's TimeoutStartSec, so that systemd's error is shown instead of ours
JOIN_SECONDS = 3.0  # for the old workers to join the new supervisor
STATUS_SECONDS = 5.0


@click.command()
@click.option("--program", metavar="PATH", help="The relayctl of the new version (default: the service's, else this).")
@click.pass_obj
def upgrade(ctx: Context, program: str | None) -> None:
    """Move the running relay to this version, keeping every connection.

    The new version checks the site and the audit log first; with a fault nothing is changed. Then systemd restarts
    the service. The old workers go on with their connections, obey the new supervisor, and end when they are empty.
    Where systemd does not run the relay, nothing can hold its listening sockets meanwhile: this command then checks,
    says how to stop and start it, and exits with status 1. Also for settings that only a new supervisor reads:
    `listen` and `node`.

    \b
    Example:
      sudo make install && sudo relayctl upgrade
      relayctl --site . upgrade --program /opt/relay/0.2.0/bin/relayctl
    """
    from relay.serve import control_client

    site = ctx.site(announce=True)
    before = control_client.call(site.state, {"do": "status"}, STATUS_SECONDS)
    if not before.get("ok"):
        raise RelayError("the running relay does not report its status", "systemctl restart relay.service")
    pid = int(before["pid"])
    unit = _unit_of(pid)
    command = _command(unit, program)
    version = _run(command, "--version").split()[-1]
    click.echo(f"running: version {before['version']}, process {pid}" + (f" of {unit}" if unit else ""))
    click.echo(f"next:    version {version}, {' '.join(command)}")
    _check(command, site)
    if not unit:
        raise _not_by_systemd(command, site, before)
    click.echo(f"systemctl restart {unit}")
    _restart(unit)
    _report(site, before, _status_of_another(site, pid))


def _unit_of(pid: int) -> str:
    """The systemd service whose main process that is; "" when there is none."""
    from relay.net import system_commands

    try:
        groups = Path(f"/proc/{pid}/cgroup").read_text().split()
        names = [group.rsplit("/", 1)[-1] for group in groups if group.endswith(".service")]
        if not names or not Path("/run/systemd/system").exists():
            return ""
        main_pid = system_commands.demand("systemctl", "show", "--property=MainPID", "--value", "--", names[0])
    except (OSError, RelayError):
        return ""
    return names[0] if main_pid.strip() == str(pid) else ""


def _command(unit: str, program: str | None) -> list[str]:
    """The command line of the new version. Raises RelayError when the service would start another program."""
    from relay.net import system_commands

    if program is not None and not (Path(program).is_file() and os.access(program, os.X_OK)):
        raise RelayError(f"{program} is no program", "name the relayctl of the new version: --program PATH")
    if not unit:
        return [os.path.abspath(program)] if program else [sys.executable, "-P", "-m", "relay"]  # noqa: PTH100 - a link stays a link
    shown = system_commands.demand("systemctl", "show", "--property=ExecStart", "--value", "--", unit)
    started = next((word[5:] for word in shown.split() if word.startswith("path=")), "")
    if not started:
        raise RelayError(f"{unit} does not say what it starts", f"systemctl cat {unit}")
    if program is not None and not _is_same_file(program, started):
        raise RelayError(
            f"{unit} starts {started}, not {program}",
            "make install moves /opt/relay/current; elsewhere: relayctl init --systemd, systemctl daemon-reload",
        )
    return [started]


def _is_same_file(path: str, other: str) -> bool:
    try:
        return Path(path).samefile(other)
    except OSError:
        return False


def _run(command: list[str], *arguments: str) -> str:
    """What the new version prints. Raises RelayError when it fails or prints nothing."""
    done = _completed([*command, *arguments], capture=True)
    if done.returncode or not done.stdout.strip():
        raise RelayError(f"{command[0]} does not run: {_last_line(done.stderr)}", "is it installed whole?")
    return done.stdout


def _check(command: list[str], site: Site) -> None:
    """Have the new version check the site and read the audit log. Raises RelayError when it cannot take them."""
    click.echo("the new version checks the site:")
    if _completed([*command, "--site", str(site.path), "check"], capture=False).returncode:
        raise RelayError("the new version would not take this site", "nothing was changed; the relay goes on")
    done = _completed([*command, "--site", str(site.path), "audit", "tail", "-n", "0"], capture=True)
    if done.returncode:  # a step back over a change of the database's format
        raise RelayError(
            f"the new version cannot read the audit log: {_last_line(done.stderr)}",
            f"nothing was changed. If you must: relayctl backup, stop the relay, move {site.state}/audit.db* away",
        )


def _completed(words: list[str], *, capture: bool) -> "subprocess.CompletedProcess[str]":
    """Run the new version to its end. Raises RelayError when it cannot be started or takes too long."""
    try:
        return subprocess.run(  # noqa: S603 - a list of words, no shell; the administrator named the program
            words,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=capture,
            text=True,
            errors="replace",
            timeout=CHECK_SECONDS,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise RelayError(f"{words[0]} does not run: {error}", "nothing was changed; the relay goes on") from None


def _not_by_systemd(command: list[str], site: Site, status: dict[str, Any]) -> RelayError:
    """How to upgrade a relay that systemd does not run, and what that costs."""
    from relay.cli.running.open_sessions import many

    start = " ".join((*command, "--site", str(site.path), "serve"))
    lost = f"{many(int(status['connections']), 'connection')} with {many(int(status['forwards']), 'forward')}"
    return RelayError(
        f"systemd does not run this relay, so it cannot be replaced while it serves. Stopping it ends {lost}, "
        "and new clients are refused until the next one serves",
        f"kill {status['pid']}; then: {start}",
    )


def _restart(unit: str) -> None:
    from relay.net import system_commands

    with waiting(f"systemctl restart {unit}"):
        done = system_commands.run("systemctl", "restart", "--", unit, timeout=READY_SECONDS)
    if done.status:
        hint = "use sudo" if os.geteuid() else f"journalctl -u {unit} -n 50; open connections go on meanwhile"
        raise RelayError(f"systemctl restart {unit}: {done.why}", hint)


def _status_of_another(site: Site, pid: int) -> dict[str, Any]:
    """The status of another supervisor than process `pid`, as soon as it answers. Raises RelayNotRunning."""
    from relay.serve import control_client

    deadline = time.monotonic() + STATUS_SECONDS  # systemd has waited until it was ready
    while time.monotonic() < deadline:
        try:
            status = control_client.call(site.state, {"do": "status"}, STATUS_SECONDS)
            if status.get("ok") and status["pid"] != pid:
                return status
        except RelayNotRunning:
            pass
        time.sleep(0.1)
    raise RelayNotRunning("the new supervisor does not answer", "relayctl doctor")


def _report(site: Site, before: dict[str, Any], after: dict[str, Any]) -> None:
    """Print the version that serves now, and the old workers that go on."""
    from relay.cli.running.open_sessions import many
    from relay.serve import control_client

    expected = sum(1 for worker in before["workers"] if worker["connections"])
    deadline = time.monotonic() + JOIN_SECONDS
    while time.monotonic() < deadline and sum(worker["draining"] for worker in after["workers"]) < expected:
        time.sleep(0.1)
        after = control_client.call(site.state, {"do": "status"}, STATUS_SECONDS)
    click.echo(f"serving: version {after['version']}, process {after['pid']}, policy {after['policy']}")
    kept = [worker for worker in after["workers"] if worker["draining"] and worker["connections"]]
    for worker in kept:
        release = escape(str(worker.get("release") or before["version"]), 40)
        click.echo(
            f"worker {worker['name']} of version {release} goes on until it is empty: "
            f"{many(worker['connections'], 'connection')} with {many(worker['forwards'], 'forward')}"
        )
    if not kept:
        click.echo("no old worker has a connection left")


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return escape(lines[-1], 300) if lines else "it prints nothing"

"""`relayctl upgrade`: another version of the program takes over the running relay, with every connection kept."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from relay.cli import Context
from relay.cli.output import waiting
from relay.core.escape import escape
from relay.errors import NobodyAnswers, RelayError

if TYPE_CHECKING:
    from relay.site.locate import Site

CHECK_SECONDS = 120.0
READY_SECONDS = 240.0  # for checking the site again, and for workers to start on a small machine
JOIN_SECONDS = 3.0  # for the workers of before to find the new supervisor
ASK_SECONDS = 5.0


@click.command()
@click.option("--program", metavar="PATH", help="The relayctl of the new version (default: the service's, else this).")
@click.pass_obj
def upgrade(ctx: Context, program: str | None) -> None:
    """Move the running relay to this version, keeping every connection.

    The new version checks the site first; with a fault nothing is changed. Then, where systemd runs the relay, the
    service is restarted; elsewhere the new version takes over from the one that runs. Either way the workers of
    before go on with their connections, obey the new supervisor, and end when they are empty. Also for what only a
    new supervisor can have: a changed `listen` or `node`.

    \b
    Example:
      sudo make install && sudo relayctl upgrade
      relayctl --site . upgrade --program /opt/relay/0.2.0/bin/relayctl
    """
    from relay.serve import control_client

    site = ctx.site(announce=True)
    before = control_client.call(site.state, {"do": "status"}, ASK_SECONDS)
    if not before.get("ok"):
        raise RelayError("the relay that runs does not say what it is", "systemctl restart relay.service")
    unit = _unit(int(before["pid"]))
    command = _command(unit, program)
    version = _ask(command, "--version").split()[-1]
    click.echo(f"running: version {before['version']}, process {before['pid']}" + (f" of {unit}" if unit else ""))
    click.echo(f"next:    version {version}, {' '.join(command)}")
    _check(command, site)
    if unit:
        click.echo(f"systemctl restart {unit}")
        _restart(unit)
        after = _wait(site, int(before["pid"]), None)
    else:
        click.echo("it takes over")
        after = _take_over(command, site, int(before["pid"]))
    _tell(site, before, after)


def _unit(pid: int) -> str:
    """The systemd service whose main process that is; "" when there is none."""
    from relay.net import system_commands as programs

    try:
        places = Path(f"/proc/{pid}/cgroup").read_text().split()
        names = [place.rsplit("/", 1)[-1] for place in places if place.endswith(".service")]
        if not names or not Path("/run/systemd/system").exists():
            return ""
        shown = programs.demand("systemctl", "show", "--property=MainPID", "--value", "--", names[0])
    except (OSError, RelayError):
        return ""
    return names[0] if shown.strip() == str(pid) else ""


def _command(unit: str, program: str | None) -> list[str]:
    """How the new version is called. Raises RelayError when that is not what the service starts."""
    from relay.net import system_commands as programs

    if program is not None and not (Path(program).is_file() and os.access(program, os.X_OK)):
        raise RelayError(f"{program} is no program", "name the relayctl of the new version: --program PATH")
    if not unit:
        return [os.path.abspath(program)] if program else [sys.executable, "-P", "-m", "relay"]  # noqa: PTH100 - a link stays a link
    shown = programs.demand("systemctl", "show", "--property=ExecStart", "--value", "--", unit)
    starts = next((word[5:] for word in shown.split() if word.startswith("path=")), "")
    if not starts:
        raise RelayError(f"{unit} does not say what it starts", f"systemctl cat {unit}")
    if program is not None and not _same(program, starts):
        raise RelayError(
            f"{unit} starts {starts}, not {program}",
            "make install moves /opt/relay/current; elsewhere: relayctl init --systemd, systemctl daemon-reload",
        )
    return [starts]


def _same(one: str, other: str) -> bool:
    try:
        return Path(one).samefile(other)
    except OSError:
        return False


def _ask(command: list[str], *arguments: str) -> str:
    """What the new version says. Raises RelayError when it does not run."""
    try:
        done = subprocess.run(  # noqa: S603 - a list of words, no shell; the person named the program
            [*command, *arguments],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=CHECK_SECONDS,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise RelayError(f"{command[0]} does not run: {error}", "is it installed whole?") from None
    if done.returncode or not done.stdout.strip():
        raise RelayError(f"{command[0]} does not run: {_last(done.stderr)}", "is it installed whole?")
    return done.stdout


def _check(command: list[str], site: "Site") -> None:
    """The new version's own check of the site. Raises RelayError when it finds a fault."""
    click.echo("the new version checks the site:")
    try:
        status = subprocess.run(  # noqa: S603 - as above
            [*command, "--site", str(site.path), "check"],
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=CHECK_SECONDS,
        ).returncode
    except (OSError, subprocess.SubprocessError) as error:
        raise RelayError(f"the check did not end: {error}", "nothing was changed; the relay goes on") from None
    if status:
        raise RelayError("the new version would not take this site", "nothing was changed; the relay goes on")
    _reads(command, site)


def _reads(command: list[str], site: "Site") -> None:
    """Whether it reads the audit log as well: a step back over a change of the database's format does not.

    Raises RelayError. A database of a former format is not asked about: whoever serves next converts it.
    """
    from relay.errors import StoreUnavailable
    from relay.store.reader import AuditReader
    from relay.store.writer import FILE

    try:
        with AuditReader(site.state / FILE) as reader:
            reader.head()
    except StoreUnavailable:
        return
    done = subprocess.run(  # noqa: S603 - as above
        [*command, "--site", str(site.path), "audit", "tail", "-n", "0"],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=CHECK_SECONDS,
    )
    if done.returncode:
        raise RelayError(
            f"the new version cannot read the audit log: {_last(done.stderr)}",
            f"nothing was changed. If you must: relayctl backup, stop the relay, move {site.state / FILE} away",
        )


def _restart(unit: str) -> None:
    from relay.net import system_commands as programs

    with waiting(f"systemctl restart {unit}"):
        done = programs.run("systemctl", "restart", "--", unit, timeout=READY_SECONDS)
    if done.status:
        hint = "use sudo" if os.geteuid() else f"journalctl -u {unit} -n 50; open connections go on meanwhile"
        raise RelayError(f"systemctl restart {unit}: {done.why}", hint)


def _take_over(command: list[str], site: "Site", pid: int) -> dict[str, Any]:
    """Start the new version beside the one that runs, as its user. Raises RelayError with its words when it fails."""
    words = site.state / "run" / "upgrade.log"  # until it serves; then it writes where the one before wrote
    owner = site.state.stat()
    root = os.geteuid() == 0 and owner.st_uid != 0
    more: dict[str, Any] = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if root else {}
    descriptor = os.open(words, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        process = subprocess.Popen(  # noqa: S603 - as above
            [*command, "--site", str(site.path), "serve", "--take-over", "--adopt-log"],
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            cwd="/",
            start_new_session=True,  # it outlives this command and its terminal
            **more,
        )
        try:
            with waiting("the new version to serve"):
                return _wait(site, pid, process)
        except NobodyAnswers:
            said = os.pread(descriptor, 4096, 0).decode(errors="replace").strip()
            for line in said.splitlines()[-10:]:
                click.echo(f"  {escape(line, 400)}", err=True)
            raise RelayError("the new version does not serve", "the relay that ran before goes on") from None
    finally:
        os.close(descriptor)
        words.unlink(missing_ok=True)


def _wait(site: "Site", pid: int, process: "subprocess.Popen[bytes] | None") -> dict[str, Any]:
    """The status of another supervisor than `pid`, as soon as it answers. Raises NobodyAnswers."""
    from relay.serve import control_client

    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and (process is None or process.poll() is None):
        try:
            status = control_client.call(site.state, {"do": "status"}, ASK_SECONDS)
            if status.get("ok") and status["pid"] != pid:
                return status
        except NobodyAnswers:
            pass  # between the two, for a moment
        time.sleep(0.1)
    raise NobodyAnswers("the new supervisor does not answer", "relayctl doctor")


def _tell(site: "Site", before: dict[str, Any], after: dict[str, Any]) -> None:
    """Say what serves now, and which workers of before go on."""
    from relay.cli.running.open_sessions import many
    from relay.serve import control_client

    expected = sum(1 for worker in before["workers"] if worker["connections"])
    deadline = time.monotonic() + JOIN_SECONDS
    while time.monotonic() < deadline and sum(worker["draining"] for worker in after["workers"]) < expected:
        time.sleep(0.1)
        after = control_client.call(site.state, {"do": "status"}, ASK_SECONDS)
    click.echo(f"serving: version {after['version']}, process {after['pid']}, policy {after['policy']}")
    drained = [worker for worker in after["workers"] if worker["draining"] and worker["connections"]]
    for worker in drained:
        forwards = f" with {many(worker['forwards'], 'forward')}" if "forwards" in worker else ""
        release = escape(str(worker.get("release") or before["version"]), 40)
        click.echo(
            f"worker {worker['name']} of version {release} goes on until it is empty: "
            f"{many(worker['connections'], 'connection')}{forwards}"
        )
    if not drained:
        click.echo("no worker of before has a connection left")


def _last(text: str) -> str:
    lines = text.strip().splitlines()
    return escape(lines[-1], 300) if lines else "it says nothing"

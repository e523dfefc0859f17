"""The systemd units of the relay.

Three texts: relay.socket holds the listening sockets (so a restart loses no connection and port 22 needs no privilege),
relay.service runs `relayctl serve` as a user of its own with nothing but the network and its state directory, and a
sysusers.d file makes that user. They are rendered here, so that a relayctl from a wheel has them; packaging/systemd
shows what is rendered for `sudo make install`, and a test keeps the two equal.
Manual pages: systemd.socket(5), systemd.service(5), systemd.exec(5), sysusers.d(5).
"""

import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from relay.core.settings import Limits
from relay.errors import InputRejected, NotPermitted, RelayError

USER = "relay"
SOCKET = "etc/systemd/system/relay.socket"
SERVICE = "etc/systemd/system/relay.service"
SYSUSERS = "etc/sysusers.d/relay.conf"
INSTALLED = Path(
    "/opt/relay/current/bin/relayctl"
)  # what `sudo make install` makes; a step back moves the link `current`

# after `relayctl init /etc/relay --systemd`, in this order
NEXT_STEPS = (
    "systemctl daemon-reload",
    "systemctl enable --now relay.socket relay.service",
    "systemctl status relay.service",
)

_PLAIN_PATH = re.compile(r"/[A-Za-z0-9._+/-]*")  # needs no quoting in a unit and contains no line end
_LISTEN = re.compile(r"(?:[0-9.]{7,15}|\[[0-9a-f:.]{2,45}\]):[0-9]{1,5}")  # ADDRESS:PORT, numbers only
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,30}")

_SOCKET_TEXT = """\
# Written by `relayctl init --systemd`. Your own changes belong into a drop-in: systemctl edit relay.socket
[Unit]
Description=SSH jump relay, listening sockets

[Socket]
{listen}
# "[::]" and "0.0.0.0" are two sockets, so that the client's address in the audit log is never a mapped one
BindIPv6Only=ipv6-only
# the descriptor's name, by which the supervisor knows it
FileDescriptorName=relay
# what waits here while the supervisor is replaced; the kernel's own bound is net.core.somaxconn
Backlog=4096

[Install]
WantedBy=sockets.target
"""

_SERVICE_TEXT = """\
# Written by `relayctl init --systemd`. Your own changes belong into a drop-in: systemctl edit relay.service
[Unit]
Description=SSH jump relay
Requires=relay.socket
After=relay.socket network.target zerotier-one.service
# always restart: this is the only way into the networks
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
User={user}
Group={user}
ExecStart={program} --site {site} serve
ExecReload={program} --site {site} reload
Restart=always
RestartSec=2
# pinged while the workers answer; if they hang, systemd starts a new supervisor with new workers
WatchdogSec=60
# Workers with open forwards live on when the supervisor is replaced, and drain; only the supervisor is signalled,
# and workers join its successor. After a stop for good: systemctl kill --signal=TERM relay.service ends open forwards.
KillMode=process
# a large site is checked and a large audit database opened before the relay is ready
TimeoutStartSec=300
TimeoutStopSec={patience}
# one worker that met a client too large for the machine must not take the others with it
OOMPolicy=continue
MemoryMax=60%
TasksMax=512
# two descriptors per forward, one per connection
LimitNOFILE=65536
LimitCORE=0

# Writable: its state (host keys, audit database, control socket), anchors in a log directory, nothing else.
{state}
UMask=0077
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
PrivateMounts=yes
RemoveIPC=yes
DevicePolicy=closed

# Privileges: none. SO_BINDTODEVICE on an unbound socket needs none; port 22 comes from the socket.
CapabilityBoundingSet=
AmbientCapabilities=
NoNewPrivileges=yes
RestrictSUIDSGID=yes
RestrictNamespaces=yes
RestrictRealtime=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes

# Address families: IP to people and hosts, AF_UNIX to its workers, AF_NETLINK to ask the kernel for a zone's route.
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM

# Visible parts of the machine. /proc/cpuinfo stays: it tells whether the CPU has AES.
ProtectProc=invisible
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes

[Install]
WantedBy=multi-user.target
"""

_SYSUSERS_TEXT = """\
# Written by `relayctl init --systemd`: the user that the relay runs as. No password, no shell, no home of its own.
u {user} - "SSH jump relay" {state} /usr/sbin/nologin
"""


def render(
    listen: Sequence[str],
    *,
    site: Path,
    state: Path,
    program: Path = INSTALLED,
    user: str = USER,
    stop: float = Limits().stop,
) -> dict[str, str]:
    """The units by their path under / (no leading slash).

    `listen` as in relay.yaml ("0.0.0.0:22", "[::]:22"), `site` and `state` absolute directories, `program` the relayctl
    that systemd starts, `stop` is limits.stop in seconds.
    Raises InputRejected when one of them would need quoting or could smuggle in a line.
    """
    if not listen:
        raise InputRejected("there is nothing to listen on", 'listen: ["0.0.0.0:2222", "[::]:2222"] in relay.yaml')
    for address in listen:
        if not _LISTEN.fullmatch(address):
            raise InputRejected(f"cannot listen on {address!r}", "write ADDRESS:PORT, such as 0.0.0.0:22 or [::]:22")
    for path in (site, state, program):
        if not _PLAIN_PATH.fullmatch(str(path)) or ".." in path.parts:
            raise InputRejected(f"a unit cannot name the path {str(path)!r}", "use an absolute path of plain letters")
    if not _USER.fullmatch(user):
        raise InputRejected(f"{user!r} is not a user name", f"use {USER}")
    if state.parent == Path("/var/lib"):
        name = state.name
        holds = f"StateDirectory={name}\nStateDirectoryMode=0700\nLogsDirectory={name}\nLogsDirectoryMode=0750"
    else:
        holds = f"ReadWritePaths={state}"
    service = _SERVICE_TEXT.format(user=user, program=program, site=site, state=holds, patience=math.ceil(stop) + 15)
    return {
        SOCKET: _SOCKET_TEXT.format(listen="\n".join(f"ListenStream={address}" for address in listen)),
        SERVICE: service,
        SYSUSERS: _SYSUSERS_TEXT.format(user=user, state=state),
    }


def program(argv0: str = sys.argv[0]) -> Path:
    """The relayctl that the service should start: the installed link, else the one that runs now.

    Raises NotPermitted when that one lies where the service cannot see it (a home directory, /tmp).
    """
    if INSTALLED.exists():
        return INSTALLED
    found = shutil.which(argv0)
    path = Path(os.path.abspath(found or argv0))  # noqa: PTH100 - not resolve(): a link such as `current` must stay one
    for hidden in ("/home", "/root", "/run/user", "/tmp", "/var/tmp"):  # noqa: S108 - ProtectHome, PrivateTmp
        if path.is_relative_to(hidden):
            raise NotPermitted(
                f"the service could not see {path}: it is given no {hidden}",
                "install it for all: sudo make install, or pipx install --global ssh-jump-relay",
            )
    return path


def write(texts: Mapping[str, str], root: Path = Path("/")) -> tuple[Path, ...]:
    """Write the units under `root`; gives back the files that differed. Each is replaced whole or not at all.

    Raises NotPermitted when they cannot be written.
    """
    changed: list[Path] = []
    for name, text in texts.items():
        path = root / name
        try:
            if path.is_file() and path.read_text() == text:
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = path.with_name(f".{path.name}.new")
            fresh.write_text(text)
            fresh.chmod(0o644)
            fresh.replace(path)
        except OSError as error:
            raise NotPermitted(f"cannot write {path}: {error.strerror}", "use sudo") from None
        changed.append(path)
    return tuple(changed)


def make_user(user: str = USER) -> bool:
    """Make the system user that the service runs as; False when it exists already.

    Called by `relayctl init --systemd` as root, after `write`. Raises NotPermitted when no tool could make it.
    """
    import pwd

    try:
        pwd.getpwnam(user)
    except KeyError:
        pass
    else:
        return False
    nologin = "/usr/sbin/nologin"
    attempts = (
        ("systemd-sysusers", f"/{SYSUSERS}"),
        ("useradd", "--system", "--user-group", "--no-create-home", "--shell", nologin, user),
    )
    for command in attempts:
        tool = shutil.which(command[0], path="/usr/sbin:/usr/bin:/sbin:/bin")
        if tool is None:
            continue
        subprocess.run([tool, *command[1:]], check=False, stdin=subprocess.DEVNULL, capture_output=True)  # noqa: S603 - a fixed list
        try:
            pwd.getpwnam(user)
        except KeyError:
            continue
        return True
    raise NotPermitted(f"there is no user {user}, and it could not be made", f"useradd --system --user-group {user}")


def main(arguments: Sequence[str]) -> None:
    """`python -m relay.site.systemd_units DIRECTORY` writes what packaging/systemd holds (`make units`)."""
    if len(arguments) != 1:
        raise RelayError("one directory is needed", "python -m relay.site.systemd_units packaging/systemd")
    directory = Path(arguments[0])
    for name, text in packaged().items():
        (directory / name).write_text(text)


def packaged() -> dict[str, str]:
    """The texts of packaging/systemd by file name: the default site on port 22, installed by `sudo make install`."""
    texts = render(["0.0.0.0:22", "[::]:22"], site=Path("/etc/relay"), state=Path("/var/lib/relay"))
    return {"sysusers.conf" if name == SYSUSERS else Path(name).name: text for name, text in texts.items()}


if __name__ == "__main__":
    main(sys.argv[1:])

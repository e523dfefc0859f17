"""Client configuration of a person: ssh_config, known_hosts, PuTTY.

Pure text from values. The relay's host key is pinned, and each host has a HostKeyAlias NAME.ZONE, so that its key is
stored under a name that does not depend on its address, its port or the relay.
"""

import re
from dataclasses import dataclass
from typing import Any

from relay.core.keys.authorized_keys import Key
from relay.core.keys.public_key import TYPE_NAMES
from relay.core.policy import time_conditions
from relay.core.policy.model import Host
from relay.core.policy.reachable_targets import Reachable
from relay.core.policy.target import Target
from relay.errors import InputRejected

_LOGIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@-]{0,63}")
_IDENTITIES = {"ED25519": "id_ed25519", "RSA": "id_rsa", "ECDSA": "id_ecdsa", "ED25519-SK": "id_ed25519_sk"} | {
    "ECDSA-SK": "id_ecdsa_sk"
}
_WINDOWS_SSH = r"C:\Windows\System32\OpenSSH\ssh.exe"


@dataclass(frozen=True, slots=True)
class Client:
    """The data of a client's configuration."""

    person: str
    login: str
    public: Target  # the relay's address for clients
    host_keys: tuple[tuple[str, str], ...]  # ("ALGORITHM BASE64", "SHA256:...")
    keys: tuple[Key, ...]  # the person's
    places: tuple[Reachable, ...]

    @property
    def alias(self) -> str:
        """The relay's name in the configuration."""
        taken = {place.name for place in self.places}
        return next(name for name in ("relay", "jump", "the-relay", "ssh-relay-") if name not in taken)

    @property
    def identities(self) -> tuple[str, ...]:
        """The usual file names of the person's private keys, client per type, in the order of their keys."""
        found = dict.fromkeys(_IDENTITIES[TYPE_NAMES[key.algorithm]] for key in self.keys)
        return tuple(found) or ("id_ed25519",)

    def hosts(self) -> tuple[tuple[str, Host], ...]:
        """The hosts whose SSH port this person may reach: (name to type, host)."""
        return tuple((place.name, place.host) for place in self.places if place.host and _open(place, place.host.port))


def make_client(
    person: str,
    public: Target,
    *,
    host_keys: tuple[tuple[str, str], ...],
    keys: tuple[Key, ...],
    places: tuple[Reachable, ...],
    login: str = "",
) -> Client:
    """Validate the data. Raises InputRejected for a login name that is invalid in a configuration file."""
    login = login or person
    if not _LOGIN.fullmatch(login):
        raise InputRejected("the login name has characters that are invalid in a configuration", "--login NAME")
    return Client(person, login, public, host_keys, keys, places)


def known_hosts(client: Client) -> tuple[str, ...]:
    """The lines for known_hosts that pin the relay's keys (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT)."""
    return tuple(f"{_known_name(client.public)} {key}" for key, _ in client.host_keys)


def config(client: Client, *, windows: bool = False) -> str:
    """The block for ~/.ssh/config (ssh_config(5)), with notes as comments."""
    where = r"%USERPROFILE%\.ssh\config" if windows else "~/.ssh/config"
    lines = [f"# for {where} of {client.person}", *_pinning(client, windows), ""]
    lines += [f"Host {client.alias}", f"    HostName {client.public.host}", f"    Port {client.public.port}"]
    lines += [f"    User {client.login}", *(f"    IdentityFile ~/.ssh/{name}" for name in client.identities)]
    lines += ["    IdentitiesOnly yes", "    ServerAliveInterval 30"]
    for name, host in client.hosts():
        lines += ["", f"Host {name}", f"    HostName {name}", f"    Port {host.port}"]
        if host.user:
            lines.append(f"    User {host.user}")
        lines.append(f"    HostKeyAlias {host.name}.{host.zone}")
        # Windows' ssh runs the first ssh in PATH for ProxyJump, which may be another client
        through = f"ProxyCommand {_WINDOWS_SSH} -W [%h]:%p {client.alias}" if windows else f"ProxyJump {client.alias}"
        lines.append(f"    {through}")
    lines += ["", *(f"# {line}" if line else "#" for line in _notes(client, windows))]
    return "\n".join(lines) + "\n"


def putty(client: Client) -> str:
    """Lines for PuTTY and plink on Windows, and what to enter in PuTTY's window."""
    identity = r"%USERPROFILE%\.ssh\id.ppk"
    pinned = "".join(f" -hostkey {fingerprint}" for _, fingerprint in client.host_keys)
    jump = f"plink.exe -batch -ssh -P {client.public.port} -l {client.login} -i {identity}{pinned}"
    lines = [f"PuTTY for {client.person}: your key as .ppk (PuTTYgen: Load, Save private key) in {identity}", ""]
    for name, host in client.hosts():
        login = f" -l {host.user}" if host.user else ""
        through = f'-proxycmd "{jump} -nc {_bracketed(name)}:{host.port} {client.public.host}"'
        lines.append(f"putty.exe -ssh -P {host.port}{login} -i {identity} {through} {name}")
        lines.append(f"plink.exe -ssh -P {host.port}{login} -i {identity} {through} {name}")
    if not client.hosts():
        lines.append(f"({client.person} may reach no host by SSH now)")
    lines += [
        "",
        "or in PuTTY 0.77 and newer, for a saved session: Connection > Proxy",
        "  Proxy type: SSH to proxy and use port forwarding",
        f"  Proxy hostname: {client.public.host}   Port: {client.public.port}   Username: {client.login}",
    ]
    return "\n".join(lines) + "\n"


def as_json(client: Client) -> dict[str, Any]:
    """The configuration as JSON values."""
    return {
        "person": client.person,
        "relay": {
            "alias": client.alias,
            "host": client.public.host,
            "port": client.public.port,
            "user": client.login,
            "identity_files": [f"~/.ssh/{name}" for name in client.identities],
            "fingerprints": [fingerprint for _, fingerprint in client.host_keys],
        },
        "known_hosts": list(known_hosts(client)),
        "hosts": [
            {
                "name": place.name,
                "zone": place.host.zone if place.host else None,
                "address": str(place.host.address) if place.host else None,
                "user": (place.host.user or None) if place.host else None,
                "ssh_port": place.host.port if place.host and _open(place, place.host.port) else None,
                "ports": [list(ports) for ports in place.ports],
            }
            for place in client.places
        ],
    }


def _pinning(client: Client, windows: bool) -> list[str]:
    if not client.host_keys:
        return ["# the relay has no host key yet: start it once, then print this again"]
    target = r"%USERPROFILE%\.ssh\known_hosts" if windows else "~/.ssh/known_hosts"
    lines = [f"# first add the relay's host key to {target}:"]
    lines += [f"#   {line}" for line in known_hosts(client)]
    return [*lines, *(f"# ({fingerprint})" for _, fingerprint in client.host_keys)]


def _notes(client: Client, windows: bool) -> list[str]:
    lines: list[str] = []
    if not client.keys:
        lines.append(f"{client.person} has no key yet: relayctl add-key {client.person} FILE")
    if not client.places:
        lines.append(f"{client.person} may reach nothing now: no rule of the policy allows it")
    ssh = {name for name, _ in client.hosts()}
    for place in client.places:
        ports = time_conditions.ports_text(place.ports)
        if place.host is None:
            lines.append(f"also {place.name} ({ports}): ssh -J {client.alias} ADDRESS")
        elif place.name not in ssh or place.ports != ((place.host.port, place.host.port),):
            first = next((low for low, high in place.ports if not low == high == place.host.port), 22)
            local = first if first > 1023 else first + 8000
            forward = f"ssh -N -L {local}:{_bracketed(place.name)}:{first} {client.alias}"
            lines.append(f"{place.name} ({ports}): {forward}")
    names = [name for name, _ in client.hosts()]
    if names:
        lines += ["", f"ssh {names[0]}, scp, sftp, rsync and git work with these names"]
        lines.append(f"VS Code: install Remote - SSH, then 'Connect to Host...' and choose {names[0]}")
        if windows:
            path = _WINDOWS_SSH.replace("\\", "\\\\")
            lines.append(f'         and in settings.json: "remote.SSH.path": "{path}"')
        lines.append("Ansible: names of this file work as inventory; without this file, in the inventory:")
        jump = f"{client.login}@{_bracketed(client.public.host)}:{client.public.port}"
        for name, host in client.hosts():
            user = f" ansible_user={host.user}" if host.user else ""
            lines.append(f"  {name} ansible_port={host.port}{user} ansible_ssh_common_args='-o ProxyJump={jump}'")
    return lines or ["`ssh relay` shows your name and your targets"]


def _open(place: Reachable, port: int) -> bool:
    return any(low <= port <= high for low, high in place.ports)


def _known_name(public: Target) -> str:
    return public.host if public.port == 22 else f"[{public.host}]:{public.port}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host

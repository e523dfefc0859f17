"""What does a person put into their SSH client to reach what they may reach?

Values in, text out. The relay's key is pinned, and each host has a HostKeyAlias NAME.ZONE, so that its key is
remembered under a name that stays the same whatever its address, its port or the relay is.
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
    """Everything a client's configuration is made of."""

    person: str
    login: str
    public: Target  # how people reach the relay
    host_keys: tuple[tuple[str, str], ...]  # ("ALGORITHM BASE64", "SHA256:...")
    keys: tuple[Key, ...]  # the person's
    places: tuple[Reachable, ...]

    @property
    def alias(self) -> str:
        """What the relay is called in the configuration."""
        taken = {place.name for place in self.places}
        return next(name for name in ("relay", "jump", "the-relay", "ssh-relay-") if name not in taken)

    @property
    def identities(self) -> tuple[str, ...]:
        """The usual file names of the person's private keys, one per type, in the order of their keys."""
        found = dict.fromkeys(_IDENTITIES[TYPE_NAMES[key.algorithm]] for key in self.keys)
        return tuple(found) or ("id_ed25519",)

    def hosts(self) -> tuple[tuple[str, Host], ...]:
        """The hosts whose SSH port this person may reach: (name to type, host)."""
        return tuple((place.name, place.host) for place in self.places if place.host and _open(place, place.host.port))


def client(
    person: str,
    public: Target,
    *,
    host_keys: tuple[tuple[str, str], ...],
    keys: tuple[Key, ...],
    places: tuple[Reachable, ...],
    login: str = "",
) -> Client:
    """The values checked. Raises InputRejected for a login name that a configuration file cannot hold."""
    login = login or person
    if not _LOGIN.fullmatch(login):
        raise InputRejected("the login name has letters that a configuration cannot hold", "--login NAME")
    return Client(person, login, public, host_keys, keys, places)


def known_hosts(one: Client) -> tuple[str, ...]:
    """The lines for known_hosts that pin the relay's keys (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT)."""
    return tuple(f"{_known_name(one.public)} {key}" for key, _ in one.host_keys)


def config(one: Client, *, windows: bool = False) -> str:
    """The block for ~/.ssh/config (ssh_config(5)), with everything that is no configuration in comments."""
    where = r"%USERPROFILE%\.ssh\config" if windows else "~/.ssh/config"
    out = [f"# for {where} of {one.person}", *_pinning(one, windows), ""]
    out += [f"Host {one.alias}", f"    HostName {one.public.host}", f"    Port {one.public.port}"]
    out += [f"    User {one.login}", *(f"    IdentityFile ~/.ssh/{name}" for name in one.identities)]
    out += ["    IdentitiesOnly yes", "    ServerAliveInterval 30"]
    for name, host in one.hosts():
        out += ["", f"Host {name}", f"    HostName {name}", f"    Port {host.port}"]
        if host.user:
            out.append(f"    User {host.user}")
        out.append(f"    HostKeyAlias {host.name}.{host.zone}")
        # Windows' own ssh cannot find itself for ProxyJump when another ssh comes first in PATH
        through = f"ProxyCommand {_WINDOWS_SSH} -W [%h]:%p {one.alias}" if windows else f"ProxyJump {one.alias}"
        out.append(f"    {through}")
    out += ["", *(f"# {line}" if line else "#" for line in _notes(one, windows))]
    return "\n".join(out) + "\n"


def putty(one: Client) -> str:
    """Lines for PuTTY and plink on Windows, and what to enter in PuTTY's window."""
    identity = r"%USERPROFILE%\.ssh\id.ppk"
    pinned = "".join(f" -hostkey {fingerprint}" for _, fingerprint in one.host_keys)
    jump = f"plink.exe -batch -ssh -P {one.public.port} -l {one.login} -i {identity}{pinned}"
    out = [f"PuTTY for {one.person}: your key as .ppk (PuTTYgen: Load, Save private key) in {identity}", ""]
    for name, host in one.hosts():
        login = f" -l {host.user}" if host.user else ""
        through = f'-proxycmd "{jump} -nc {_bracketed(name)}:{host.port} {one.public.host}"'
        out.append(f"putty.exe -ssh -P {host.port}{login} -i {identity} {through} {name}")
        out.append(f"plink.exe -ssh -P {host.port}{login} -i {identity} {through} {name}")
    if not one.hosts():
        out.append(f"({one.person} may reach no host by SSH now)")
    out += [
        "",
        "or in PuTTY 0.77 and newer, for a saved session: Connection > Proxy",
        "  Proxy type: SSH to proxy and use port forwarding",
        f"  Proxy hostname: {one.public.host}   Port: {one.public.port}   Username: {one.login}",
    ]
    return "\n".join(out) + "\n"


def as_json(one: Client) -> dict[str, Any]:
    """The same for programs."""
    return {
        "person": one.person,
        "relay": {
            "alias": one.alias,
            "host": one.public.host,
            "port": one.public.port,
            "user": one.login,
            "identity_files": [f"~/.ssh/{name}" for name in one.identities],
            "fingerprints": [fingerprint for _, fingerprint in one.host_keys],
        },
        "known_hosts": list(known_hosts(one)),
        "hosts": [
            {
                "name": place.name,
                "zone": place.host.zone if place.host else None,
                "address": str(place.host.address) if place.host else None,
                "user": (place.host.user or None) if place.host else None,
                "ssh_port": place.host.port if place.host and _open(place, place.host.port) else None,
                "ports": [list(ports) for ports in place.ports],
            }
            for place in one.places
        ],
    }


def _pinning(one: Client, windows: bool) -> list[str]:
    if not one.host_keys:
        return ["# the relay has no host key yet: start it once, then print this again"]
    target = r"%USERPROFILE%\.ssh\known_hosts" if windows else "~/.ssh/known_hosts"
    out = [f"# first, so that nobody can pretend to be the relay, add to {target}:"]
    out += [f"#   {line}" for line in known_hosts(one)]
    return [*out, *(f"# ({fingerprint})" for _, fingerprint in one.host_keys)]


def _notes(one: Client, windows: bool) -> list[str]:
    out: list[str] = []
    if not one.keys:
        out.append(f"{one.person} has no key yet: relayctl add-key {one.person} FILE")
    if not one.places:
        out.append(f"{one.person} may reach nothing now: no rule of the policy allows it")
    ssh = {name for name, _ in one.hosts()}
    for place in one.places:
        ports = time_conditions.ports_text(place.ports)
        if place.host is None:
            out.append(f"also {place.name} ({ports}): ssh -J {one.alias} ADDRESS")
        elif place.name not in ssh or place.ports != ((place.host.port, place.host.port),):
            first = next((low for low, high in place.ports if not low == high == place.host.port), 22)
            local = first if first > 1023 else first + 8000
            forward = f"ssh -N -L {local}:{_bracketed(place.name)}:{first} {one.alias}"
            out.append(f"{place.name} ({ports}): {forward}")
    names = [name for name, _ in one.hosts()]
    if names:
        out += ["", f"ssh {names[0]}, scp, sftp, rsync and git work as if {names[0]} were near"]
        out.append(f"VS Code: install Remote - SSH, then 'Connect to Host...' and choose {names[0]}")
        if windows:
            path = _WINDOWS_SSH.replace("\\", "\\\\")
            out.append(f'         and in settings.json: "remote.SSH.path": "{path}"')
        out.append("Ansible: names of this file work as inventory; without this file, in the inventory:")
        jump = f"{one.login}@{_bracketed(one.public.host)}:{one.public.port}"
        for name, host in one.hosts():
            user = f" ansible_user={host.user}" if host.user else ""
            out.append(f"  {name} ansible_port={host.port}{user} ansible_ssh_common_args='-o ProxyJump={jump}'")
    return out or ["ssh relay says who you are and what you may reach"]


def _open(place: Reachable, port: int) -> bool:
    return any(low <= port <= high for low, high in place.ports)


def _known_name(public: Target) -> str:
    return public.host if public.port == 22 else f"[{public.host}]:{public.port}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host

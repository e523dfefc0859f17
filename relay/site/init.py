"""A new site: writes missing files with explanatory comments, and never overwrites one.

In production root owns the site and the service's group may only read it.
"""

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from relay.core.policy.model import Address, Network
from relay.errors import NotPermitted, RelayError
from relay.site import json_schema, locate
from relay.site.policy import compiler

RESERVE = f"{locate.KEYS}/.reserve"
RESERVE_BYTES = 8192  # freed by revoke-key on a full disk, as room for its line
OVERLAYS = ("zt", "wg", "tailscale", "tun")  # prefixes of overlay interfaces

_SETTINGS = """\
# The relay's settings. Every one has a default: an empty file is a working server that reaches nothing.
# After an edit: relayctl check, then relayctl reload.

# listen: ["0.0.0.0:2222", "[::]:2222"]   # under systemd, relay.socket listens instead
# public: relay.example.com:22            # the address for clients; never dialled
# workers: auto                           # processes; auto is min(cores, 4)
# timezone: Asia/Shanghai                 # for `until`, `days` and `hours` of rules; default UTC
# login: recorded                         # strict: the login name must be the person's
# limits: {login_grace: 30s, forwards_per_connection: 256, dial_timeout: 10s}
# audit: {keep: 400d, max_size: 2GiB, strangers: 30d}
"""

_POLICY = """\
# Who may reach what. All of policies/*.yaml are merged; their order has no effect.
# No rule matches: denied. A matching deny wins over every allow.

{zones}
# hosts:                    # names for addresses; user and port are only for client-config
#   remote: {{address: 192.168.1.201, zone: office, user: ubuntu}}

# groups:
#   ops: [alice, bob]       # persons: their keys are in keys/alice.pub and keys/bob.pub (relayctl add-key)

# rules:
#   - {{name: ops reach the office by ssh, allow: [ops], to: [office], ports: [22]}}

# expect:                   # checked before a policy is applied
#   - {{who: alice, to: "remote:22", verdict: allow}}
"""

_ZONES = """\
zones:                      # networks, each reached by exactly one interface
"""

_NO_ZONES = """\
# zones:                    # networks, each reached by exactly one interface; none was found in the kernel's routes
#   office: {networks: [192.168.1.0/24], interface: "zt*", gateway: 172.18.0.200}
"""

_KEYS = """\
One file per person: alice.pub holds the public keys of alice, as in OpenSSH's authorized_keys.

    relayctl add-key alice alice_id_ed25519.pub     adds a key of alice, at once
    relayctl revoke-key alice                       revokes her keys for ever, at once (in the file `revoked`)

Supported options before a key: from=, expiry-time=, permitopen=, restrict, port-forwarding.
`.reserve` is room that revoke-key needs on a full disk. Do not delete it.
"""

_DIRECTORIES = (locate.POLICIES, locate.KEYS, json_schema.DIRECTORY)


@dataclass(frozen=True, slots=True)
class CandidateRoute:
    """A route of the kernel that may lead to a zone. `gateway` None: on-link."""

    network: Network
    gateway: Address | None
    interface: str


@dataclass(frozen=True, slots=True)
class FileOwner:
    """The owner and group of the site's files."""

    uid: int
    gid: int


def make(site: Path, routes: Iterable[CandidateRoute], owner: FileOwner | None = None) -> tuple[str, ...]:
    """Make what is missing of the site; returns one line for each file that was made or kept.

    Without `owner` the files belong to the current user. Raises NotPermitted if the site cannot be written, RelayError
    for a directory with other content.
    """
    _refuse_foreign(site)
    contents = files(routes)
    done: list[str] = []
    try:
        done += [_directory(path, owner) for path in (site, *(site / name for name in _DIRECTORIES))]
        for name, content in contents.items():
            if name.startswith(locate.POLICIES) and name.endswith(".yaml") and _has_policy(site):
                continue  # another policy with the same zones would contradict the existing ones
            done.append(_file(site / name, content, owner))
    except OSError as error:
        raise NotPermitted(
            f"{error.filename or site}: {error.strerror}", "run it with sudo, or name another directory"
        ) from None
    return tuple(done)


def files(routes: Iterable[CandidateRoute]) -> dict[str, bytes]:
    """The files of a new site by name. Zones from the kernel's routes are left out if they are invalid."""
    proposed = _proposed(routes)
    contents = _contents(_ZONES + "".join(proposed) if proposed else _NO_ZONES)
    documents = {name: content for name, content in contents.items() if name.endswith(".yaml")}
    if compiler.compile_documents(documents, frozenset(), now=0).compiled is None:
        contents = _contents(_NO_ZONES)
    return contents


def _contents(zones: str) -> dict[str, bytes]:
    texts = {
        locate.SETTINGS: json_schema.hint("relay") + _SETTINGS,
        f"{locate.POLICIES}/policy.yaml": json_schema.hint("policy") + _POLICY.format(zones=zones),
        f"{locate.KEYS}/README": _KEYS,
        json_schema.FILES["relay"]: json_schema.text("relay"),
        json_schema.FILES["policy"]: json_schema.text("policy"),
        RESERVE: "\0" * RESERVE_BYTES,
    }
    return {name: text.encode() for name, text in texts.items()}


def _proposed(routes: Iterable[CandidateRoute]) -> list[str]:
    """One line of YAML per zone. Of overlapping networks of an interface the largest is used, others are comments."""
    candidates = [
        route
        for route in dict.fromkeys(routes)
        if route.interface.startswith(OVERLAYS)
        and route.network.is_private
        and not route.network.is_link_local
        and 8 <= route.network.prefixlen < route.network.max_prefixlen
    ]
    chosen: list[CandidateRoute] = []
    lines: list[str] = []
    for route in sorted(
        candidates,
        key=lambda route: (
            route.interface,
            route.network.version,
            route.network.prefixlen,
            route.network.network_address,
        ),
    ):
        gateway = f", gateway: {route.gateway}" if route.gateway is not None else ""
        body = f'{{networks: ["{route.network}"], interface: "{route.interface}"{gateway}}}'
        if any(
            route.interface == other.interface
            and route.network.version == other.network.version
            and route.network.overlaps(other.network)
            for other in chosen
        ):
            lines.append(f"  # lan-inside: {body}   # overlaps one above: split that one to use it\n")
            continue
        chosen.append(route)
        name = "lan" if len(chosen) == 1 else f"lan-{len(chosen)}"
        lines.append(f"  {name}: {body}\n")
    return lines


def _refuse_foreign(site: Path) -> None:
    try:
        names = {entry.name for entry in site.iterdir()}
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise RelayError(f"{site} is not a directory", "name a new one: relayctl init DIR") from None
    except OSError as error:
        raise NotPermitted(f"{site}: {error.strerror}", "run it with sudo, or name another directory") from None
    if names and not names & {locate.SETTINGS, locate.POLICIES, locate.KEYS}:
        raise RelayError(f"{site} has content that is not a site", "name a new directory: relayctl init DIR")
    fault = locate.writable_by_others(site)
    if fault:
        raise NotPermitted(f"{site} {fault}: anyone who can write it can grant access", f"chmod go-w {site}")


def _has_policy(site: Path) -> bool:
    return any(entry.suffix == ".yaml" for entry in (site / locate.POLICIES).iterdir())


def _directory(path: Path, owner: FileOwner | None) -> str:
    try:
        path.mkdir(mode=0o750, parents=True)
    except FileExistsError:
        return f"kept {path}"
    path.chmod(0o750)  # regardless of the umask
    _own(path, owner)
    return f"made {path}"


def _file(path: Path, content: bytes, owner: FileOwner | None) -> str:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o640)
    except FileExistsError:
        return f"kept {path}"
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), 0o640)
    except OSError:  # the next run would keep an incomplete file
        path.unlink(missing_ok=True)
        raise
    _own(path, owner)
    return f"made {path}"


def give(site: Path, owner: FileOwner) -> tuple[str, ...]:
    """Set owner and mode of existing files, for a second run after the group was made.

    Only directories and plain files of the site, no links. Returns one line for each change.
    """
    done = []
    known = [path for path in (site / locate.SETTINGS,) if path.exists()]
    for path in (site, *known, *(found for name in _DIRECTORIES for found in _below(site / name))):
        found = path.lstat()
        mode = 0o750 if stat.S_ISDIR(found.st_mode) else 0o640
        if stat.S_ISLNK(found.st_mode):
            continue
        if (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) != (owner.uid, owner.gid, mode):
            _own(path, owner)
            path.chmod(mode)
            done.append(f"set owner and mode of {path}")
    return tuple(done)


def _below(directory: Path) -> list[Path]:
    if not directory.is_dir():
        return []
    return [directory, *sorted(entry for entry in directory.iterdir() if entry.is_file())]


def _own(path: Path, owner: FileOwner | None) -> None:
    if owner is not None:
        os.chown(path, owner.uid, owner.gid, follow_symlinks=False)

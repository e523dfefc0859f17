"""What does a new site look like? Writes what is missing, with comments to go on from; never overwrites anything.

Site, modes and owners are DESIGN's: in production root owns it and the server's group may only read it.
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
RESERVE_BYTES = 8192  # given back by revoke-key on a full disk: room for the line it must write
OVERLAYS = ("zt", "wg", "tailscale", "tun")  # interfaces of overlay networks begin so

_SETTINGS = """\
# The relay's settings. Every one has a default: an empty file is a working server that reaches nothing.
# After an edit: relayctl check, then relayctl reload.

# listen: ["0.0.0.0:2222", "[::]:2222"]   # under systemd, relay.socket listens instead
# public: relay.example.com:22            # how people reach it, for client-config and for refusing to dial itself
# workers: auto                           # processes; auto is min(cores, 4)
# timezone: Asia/Shanghai                 # for `until`, `days` and `hours` of rules; default UTC
# login: recorded                         # strict: the login name must be the person's
# limits: {login_grace: 30s, forwards_per_connection: 256, dial_timeout: 10s}
# audit: {keep: 400d, max_size: 2GiB, strangers: 30d}
"""

_POLICY = """\
# Who reaches what. All of policies/*.yaml are merged; their order decides nothing.
# No rule matches: denied. A matching deny wins over every allow.

{zones}
# hosts:                    # names for addresses; user and port are only for client-config
#   remote: {{address: 192.168.1.201, zone: office, user: ubuntu}}

# groups:
#   ops: [alice, bob]       # persons: whose keys are in keys/alice.pub and keys/bob.pub (relayctl add-key)

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

    relayctl add-key alice alice_id_ed25519.pub     lets alice in, at once
    relayctl revoke-key alice                       shuts her out for ever, at once (it writes the file `revoked`)

Options before a key that narrow it are honoured: from=, expiry-time=, permitopen=, restrict, port-forwarding.
`.reserve` is room that revoke-key gives back on a full disk. Leave it here.
"""

_DIRECTORIES = (locate.POLICIES, locate.KEYS, json_schema.DIRECTORY)


@dataclass(frozen=True, slots=True)
class CandidateRoute:
    """One route of the kernel that may lead to a zone. `gateway` None: on-link."""

    network: Network
    gateway: Address | None
    interface: str


@dataclass(frozen=True, slots=True)
class FileOwner:
    """Whose the files become; None leaves them to whoever runs this (not root, or no such group yet)."""

    uid: int
    gid: int


def make(site: Path, ways: Iterable[CandidateRoute], owner: FileOwner | None = None) -> tuple[str, ...]:
    """Make what is missing of the site. Gives one line per thing: what was made, what was there already.

    Raises NotPermitted when it cannot be written, RelayError for a directory that holds something else.
    """
    _refuse_foreign(site)
    contents = files(ways)
    done: list[str] = []
    try:
        done += [_directory(path, owner) for path in (site, *(site / name for name in _DIRECTORIES))]
        for name, content in contents.items():
            if name.startswith(locate.POLICIES) and name.endswith(".yaml") and _has_policy(site):
                continue  # there are policies already: a second one with the same zones would contradict them
            done.append(_file(site / name, content, owner))
    except OSError as error:
        raise NotPermitted(f"{error.filename or site}: {error.strerror}", "use sudo, or another directory") from None
    return tuple(done)


def files(ways: Iterable[CandidateRoute]) -> dict[str, bytes]:
    """The files of a new site by name. What is proposed from the kernel's routes is valid, or it is left out."""
    proposed = _proposed(ways)
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


def _proposed(ways: Iterable[CandidateRoute]) -> list[str]:
    """One line of YAML per zone. Of networks that overlap on one interface the widest is taken, the others noted."""
    wanted = [
        way
        for way in dict.fromkeys(ways)
        if way.interface.startswith(OVERLAYS)
        and way.network.is_private
        and not way.network.is_link_local
        and 8 <= way.network.prefixlen < way.network.max_prefixlen
    ]
    taken: list[CandidateRoute] = []
    lines: list[str] = []
    for way in sorted(
        wanted, key=lambda way: (way.interface, way.network.version, way.network.prefixlen, way.network.network_address)
    ):
        gateway = f", gateway: {way.gateway}" if way.gateway is not None else ""
        body = f'{{networks: ["{way.network}"], interface: "{way.interface}"{gateway}}}'
        if any(
            way.interface == other.interface
            and way.network.version == other.network.version
            and way.network.overlaps(other.network)
            for other in taken
        ):
            lines.append(f"  # lan-inside: {body}   # overlaps one above: split that one to use it\n")
            continue
        taken.append(way)
        name = "lan" if len(taken) == 1 else f"lan-{len(taken)}"
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
        raise NotPermitted(f"{site}: {error.strerror}", "use sudo, or another directory") from None
    if names and not names & {locate.SETTINGS, locate.POLICIES, locate.KEYS}:
        raise RelayError(f"{site} holds something that is not a site", "name a new directory: relayctl init DIR")
    fault = locate.writable_by_others(site)
    if fault:
        raise NotPermitted(f"{site} {fault}: whoever can write it decides who gets in", f"chmod go-w {site}")


def _has_policy(site: Path) -> bool:
    return any(entry.suffix == ".yaml" for entry in (site / locate.POLICIES).iterdir())


def _directory(path: Path, owner: FileOwner | None) -> str:
    try:
        path.mkdir(mode=0o750, parents=True)
    except FileExistsError:
        return f"kept {path}"
    path.chmod(0o750)  # whatever the umask is
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
    except OSError:  # half a file would be kept for ever by the next run
        path.unlink(missing_ok=True)
        raise
    _own(path, owner)
    return f"made {path}"


def give(site: Path, owner: FileOwner) -> tuple[str, ...]:
    """Give what is there to its right owner, with the right modes; for a second run when the group exists at last.

    Only directories and plain files of the site, no links. Gives one line per thing that was changed.
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
            done.append(f"gave {path} its owner and mode")
    return tuple(done)


def _below(directory: Path) -> list[Path]:
    if not directory.is_dir():
        return []
    return [directory, *sorted(entry for entry in directory.iterdir() if entry.is_file())]


def _own(path: Path, owner: FileOwner | None) -> None:
    if owner is not None:
        os.chown(path, owner.uid, owner.gid, follow_symlinks=False)

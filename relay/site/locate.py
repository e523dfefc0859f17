"""Location of the site and of its state directory.

Standard library only. The control client needs the state directory even if the site's files are invalid, because a
revocation works with a broken policy. So `state:` is read from relay.yaml by a line scan that accepts one spelling, and
`relay.site.policy.compiler` refuses every other spelling. Scan and YAML parser therefore agree about a valid site.
"""

import grp
import os
import pwd
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from relay.errors import NotPermitted, RelayError

SYSTEM = Path("/etc/relay")
SYSTEM_STATE = Path("/var/lib/relay")
SETTINGS = "relay.yaml"
POLICIES = "policies"
KEYS = "keys"
MOST_BYTES = 1 << 20  # of one file; a policy of 10,000 rules is about 1 MB in total

# `state:` at the left margin, its value on the same line, without escapes
STATE_LINE = re.compile(r"""^state:[ \t]+(["']?)([A-Za-z0-9._/-]+)\1[ \t]*(?:#.*)?$""")


@dataclass(frozen=True, slots=True)
class Site:
    """A site: the directory with relay.yaml, policies/ and keys/, and the directory of its state."""

    path: Path
    state: Path


def find(option: str | None, environ: Mapping[str, str], *, narrowing: bool = False) -> Site:
    """The site to use: `option` (--site), else RELAY_SITE, else /etc/relay; never the current directory by default.

    Raises RelayError if there is none, NotPermitted if others than its owner can write it. With `narrowing` the latter
    is not checked, because a revocation must work in any state of the site.
    """
    chosen = option or environ.get("RELAY_SITE") or str(SYSTEM)
    if "\0" in chosen:
        raise RelayError("a site's path cannot contain a NUL byte", "relayctl --site DIR ...")
    path = Path(os.path.abspath(chosen))  # noqa: PTH100 - not resolve(): /etc/relay may be a link and is still /etc/relay
    try:
        status = path.stat()
    except FileNotFoundError:
        where = "" if option or environ.get("RELAY_SITE") else ", and neither --site nor RELAY_SITE names another"
        raise RelayError(f"there is no site at {path}{where}", f"make one: relayctl init {path}") from None
    except OSError as error:
        raise NotPermitted(
            f"the site {path} cannot be read: {error.strerror}", "run it with sudo, or name another: --site DIR"
        ) from None
    if not stat.S_ISDIR(status.st_mode):
        raise RelayError(f"the site {path} is not a directory", "name the directory that holds relay.yaml: --site DIR")
    for part in (path, path / SETTINGS, path / POLICIES, path / KEYS):
        fault = "" if narrowing else writable_by_others(part)
        if fault:
            raise NotPermitted(f"{part} {fault}: anyone who can write it can grant access", f"chmod go-w {part}")
    return Site(path, state_directory(path, scan_state(path)))


def state_directory(path: Path, setting: str) -> Path:
    """The state directory of the site at `path`, given its setting `state` ("" for the default)."""
    if setting:
        return path / setting  # an absolute setting replaces the path
    return SYSTEM_STATE if path == SYSTEM else path / "state"


def scan_state(path: Path) -> str:
    """The setting `state` of the site at `path`, without a YAML parser; "" if unset or unreadable."""
    try:
        with (path / SETTINGS).open("rb") as file:
            data = file.read(MOST_BYTES)
    except OSError:
        return ""
    for line in data.decode("utf-8", "replace").splitlines():
        match = STATE_LINE.match(line)
        if match:
            return match[2]
    return ""


def writable_by_others(path: Path) -> str:
    """Why others than the owner can write `path`; "" if they cannot, or it does not exist.

    The owner's private group counts as the owner, because Ubuntu's default umask is 0002.
    """
    try:
        status = path.stat()
    except OSError:
        return ""
    if status.st_mode & stat.S_IWOTH:
        return "is writable by everyone"
    if status.st_mode & stat.S_IWGRP and not _private_group(status.st_uid, status.st_gid):
        return "is writable by its group"
    return ""


def _private_group(uid: int, gid: int) -> bool:
    try:
        owner, group = pwd.getpwuid(uid), grp.getgrgid(gid)
    except KeyError:
        return False
    return owner.pw_gid == gid and owner.pw_name == group.gr_name and set(group.gr_mem) <= {owner.pw_name}

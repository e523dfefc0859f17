"""The record and the journal of `net apply`: two JSON files below OWN, and one lock.

The record (applied.json) lists the files that we wrote, with their digests. The journal (journal.json) exists only
while a run changes something: it holds the state before the run, and the next run restores that state.
"""

import contextlib
import json
import os
import stat
from base64 import b64decode, b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relay import file_lock
from relay.core.escape import escape
from relay.errors import NotPermitted, RelayError
from relay.net.apply import managed_files
from relay.net.apply.kernel_state import KernelState
from relay.net.apply.managed_files import FileContent
from relay.net.apply.managed_routes import ManagedRouteLine
from relay.net.plan.machine import OWN

RECORD = f"{OWN}/applied.json"
JOURNAL = f"{OWN}/journal.json"
LOCK = "/run/relay-net.lock"  # never removed: a process waiting for a removed file would lock nothing
_FORMAT = 1
_LOCK_SECONDS = 5.0  # `up` of a run that was killed may still be ending, and holds the lock until then


@dataclass(frozen=True, slots=True)
class AppliedPlan:
    """Record of what was applied. The zero value: nothing."""

    files: dict[str, str] = field(default_factory=dict)  # path -> digest of what we wrote
    directories: tuple[str, ...] = ()  # that we made
    down: str = ""  # the file that takes the kernel's part back
    unit: bool = False  # whether systemd runs it


@dataclass(frozen=True, slots=True)
class Unit:
    """Our systemd unit: whether it starts at boot, and whether it runs. Both false where there is no systemd."""

    enabled: bool = False
    active: bool = False


@dataclass(frozen=True, slots=True)
class ApplyJournal:
    """State before an unfinished run."""

    files: dict[str, FileContent | None]
    directories: tuple[str, ...]  # that were not there
    held: KernelState
    unit: Unit


@contextlib.contextmanager
def locked() -> Iterator[int]:
    """Hold the lock; gives its descriptor, for children that have to hold it too. Raises RelayError when taken."""
    try:
        descriptor = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise NotPermitted(f"{LOCK}: {error.strerror}", "use sudo") from None
    try:
        if not file_lock.acquire(descriptor, _LOCK_SECONDS):
            holder = escape(os.pread(descriptor, 64, 0), 64).strip() or "it left no name"
            raise RelayError(
                f"another relayctl net apply is at work here: {holder}", "wait for it, or end it, and try again"
            )
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"process %d" % os.getpid(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def make_own_directory() -> None:
    """Make OWN, if it is not there. Raises NotPermitted where others than root could write to it."""
    managed_files.make_directories(managed_files.missing_directories([RECORD]))
    found = Path(OWN).lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise NotPermitted(f"{OWN} is not a directory that only root can write to", f"mv {OWN} {OWN}.aside")


def read_record() -> AppliedPlan:
    """The record of what was applied here.

    Raises RelayError for an invalid record, NotPermitted for one that others could write.
    """
    found = _read(RECORD)
    if found is None:
        return AppliedPlan()
    with _whole(RECORD):
        return AppliedPlan(
            {_path(path): _string(digest) for path, digest in found["files"].items()},
            tuple(_path(path) for path in found["directories"]),
            _string(found["down"]),
            bool(found["unit"]),
        )


def record_file(record: AppliedPlan) -> FileContent:
    """The record's file."""
    return _file(
        {
            "format": _FORMAT,
            "about": "what `relayctl net apply` wrote; `relayctl net apply --undo` takes it back",
            "files": record.files,
            "directories": record.directories,
            "down": record.down,
            "unit": record.unit,
        },
        0o644,
    )


def write_journal(journal: ApplyJournal) -> None:
    """Write the journal: from now on a crash is rolled back. Raises NotPermitted."""
    files = {
        path: None
        if seen is None
        else {"content": b64encode(seen.content).decode(), "mode": seen.mode, "uid": seen.uid, "gid": seen.gid}
        for path, seen in journal.files.items()
    }
    held = {
        "rules": journal.held.rules,
        "routes": [[line.version, line.words] for line in journal.held.routes],
        "settings": list(journal.held.settings),
    }
    managed_files.put(
        JOURNAL,
        _file(
            {
                "format": _FORMAT,
                "files": files,
                "directories": journal.directories,
                "held": held,
                "unit": [journal.unit.enabled, journal.unit.active],
            },
            0o600,
        ),
    )


def read_journal() -> ApplyJournal | None:
    """The journal of a run that was cut off, None where there is none. Raises as `load` does."""
    found = _read(JOURNAL)
    if found is None:
        return None
    with _whole(JOURNAL):
        held = found["held"]
        return ApplyJournal(
            {
                _path(path): None
                if at is None
                else FileContent(b64decode(at["content"]), int(at["mode"]) & 0o7777, int(at["uid"]), int(at["gid"]))
                for path, at in found["files"].items()
            },
            tuple(_path(path) for path in found["directories"]),
            KernelState(
                _string(held["rules"]),
                tuple(ManagedRouteLine(6 if version == 6 else 4, _string(words)) for version, words in held["routes"]),
                tuple((_string(name), _string(value)) for name, value in held["settings"]),
            ),
            Unit(*(bool(at) for at in found["unit"][:2])),
        )


def remove_journal() -> None:
    """Remove the journal: the run is complete."""
    managed_files.put(JOURNAL, None)


def _file(value: dict[str, Any], mode: int) -> FileContent:
    return FileContent((json.dumps(value, indent=1) + "\n").encode(), mode, os.geteuid(), os.getegid())


def _read(path: str) -> dict[str, Any] | None:
    found = managed_files.read_file(path)
    if found is None:
        return None
    if found.uid != os.geteuid() or found.mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise NotPermitted(f"{path} could be written by others than root", f"look at it, then: rm {path}")
    with _whole(path):
        value = json.loads(found.content)
        if not isinstance(value, dict) or value.get("format") != _FORMAT:
            raise ValueError("another format")
        return value


@contextlib.contextmanager
def _whole(path: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise RelayError(
            f"{path} is not what relayctl wrote: {escape(f'{type(error).__name__} {error}', 120)}",
            f"what it knew is lost; look at the files below {Path(path).parent}, then: rm {path}",
        ) from None


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a text is missing")
    return value


def _path(value: object) -> str:
    """A path that may be written: absolute and normalized."""
    path = _string(value)
    if not path.startswith("/") or os.path.normpath(path) != path or "\0" in path:
        raise ValueError(f"{path!r} is not a plain absolute path")
    return path

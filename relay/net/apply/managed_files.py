"""Files that `net apply` manages: read, replaced atomically and durably, compared.

A digest tells whether a file is still as we wrote it: the record has the digest of what was written.
"""

import contextlib
import difflib
import hashlib
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from relay import atomic_file
from relay.core.escape import escape
from relay.errors import NotPermitted, RelayError

_MOST_BYTES = 4 << 20  # of one file; the rules for 10,000 prefixes are about 1 MB


@dataclass(frozen=True, slots=True)
class FileContent:
    """A plain file as it is, or as it shall be."""

    content: bytes
    mode: int = 0o644
    uid: int = 0
    gid: int = 0

    @property
    def digest(self) -> str:
        """The digest in the record: of content and mode, not of the owner."""
        return hashlib.sha256(b"%o\n" % self.mode + self.content).hexdigest()


@dataclass(frozen=True, slots=True)
class FileChange:
    """One file that is to be made, replaced or removed; None: not there."""

    path: str
    before: FileContent | None
    after: FileContent | None


def read_file(path: str | Path) -> FileContent | None:
    """The file at `path`, None for none. Raises RelayError for anything but a regular file (a link, for instance)."""
    try:
        # not blocking: a FIFO in the place of a file must not stop us
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        why = "a link" if Path(path).is_symlink() else f"not to be read: {error.strerror}"
        raise RelayError(f"{path} is {why}", f"a plain file of ours belongs there: mv {path} {path}.aside") from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > _MOST_BYTES:
            raise RelayError(
                f"{path} exists and was not created by relayctl", f"one belongs there: mv {path} {path}.aside"
            )
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return FileContent(file.read(_MOST_BYTES + 1), stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid)
    finally:
        os.close(descriptor)


def put(path: str | Path, wanted: FileContent | None) -> None:
    """Replace `path` atomically and durably; None: remove it. Raises NotPermitted when that fails."""
    place = Path(path)
    try:
        if wanted is None:
            atomic_file.beside(place).unlink(missing_ok=True)
            place.unlink(missing_ok=True)
            atomic_file.sync(place.parent)
        else:
            atomic_file.replace(place, wanted.content, wanted.mode, lambda descriptor: _own(descriptor, wanted))
    except OSError as error:
        if wanted is None and isinstance(error, FileNotFoundError | NotADirectoryError):
            return  # its directory is not there either
        raise NotPermitted(f"{place}: {error.strerror}", "is its file system full, or mounted read-only?") from None


def sweep(path: str | Path) -> None:
    """Remove what a crash within `put` has left beside `path`."""
    with contextlib.suppress(OSError):
        atomic_file.beside(Path(path)).unlink()


def missing_directories(paths: Iterable[str]) -> tuple[str, ...]:
    """The directories above `paths` that are not there, the outer ones first."""
    found: dict[str, None] = {}
    for path in paths:
        for parent in reversed(Path(path).parents):
            if not parent.exists():
                found[str(parent)] = None
    return tuple(found)


def make_directories(paths: Iterable[str]) -> None:
    """Make those that `missing_directories` named. Raises NotPermitted."""
    for path in paths:
        try:
            with contextlib.suppress(FileExistsError):
                Path(path).mkdir(mode=0o755)
            atomic_file.sync(Path(path).parent)
        except OSError as error:
            raise NotPermitted(f"{path}: {error.strerror}", "is its file system mounted read-only?") from None


def remove_directories(paths: Iterable[str]) -> None:
    """Remove the empty ones of these directories, the inner ones first."""
    for path in sorted(paths, key=len, reverse=True):
        with contextlib.suppress(OSError):
            Path(path).rmdir()
            atomic_file.sync(Path(path).parent)


def unified(name: str, before: str | None, after: str | None) -> list[str]:
    """A unified diff of two texts (None: not there), fit to be shown; no lines where they are the same."""
    if before == after:
        return []
    lines = difflib.unified_diff(
        _lines(before),
        _lines(after),
        "/dev/null" if before is None else name,
        "/dev/null" if after is None else name,
        lineterm="",
    )
    return list(lines) or [f"--- {name}", f"+++ {name}"]


def difference(change: FileChange) -> list[str]:
    """A change as a unified diff, with a line for another mode or owner."""
    before, after = change.before, change.after
    lines = unified(change.path, _text(before), _text(after))
    if before is not None and after is not None:
        if before.mode != after.mode:
            lines.append(f"# mode {before.mode:o} becomes {after.mode:o}")
        if (before.uid, before.gid) != (after.uid, after.gid):
            lines.append(f"# owner {before.uid}:{before.gid} becomes {after.uid}:{after.gid}")
    return lines


def _text(seen: FileContent | None) -> str | None:
    return None if seen is None else seen.content.decode("utf-8", "backslashreplace")


def _lines(text: str | None) -> list[str]:
    """Each line as it is, a script's backslashes too; escaped where it holds something that could move a cursor."""
    lines = (text or "").removesuffix("\n").split("\n") if text else []
    return [line if line.replace("\t", "").isprintable() else escape(line, 500) for line in lines]


def _own(descriptor: int, wanted: FileContent) -> None:
    if (wanted.uid, wanted.gid) != (os.geteuid(), os.getegid()):
        os.fchown(descriptor, wanted.uid, wanted.gid)

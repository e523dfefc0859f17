"""Backup and restore of a site and its state, in one file.

A backup is a gzipped tar: `site/` (relay.yaml, policies, keys), `state/host_keys`, `state/applied`, `state/audit.db` as
a consistent copy (SQLite's backup, so a running relay is no obstacle), `state/archive` as it belongs to that copy, and
last a `manifest.json` with the SHA-256 of each file. It holds the private host keys: mode 0600. It never holds the key
that signs the audit log (audit_key): a copy of it could forge the log from there on. So a restored log continues with a
new key, and records that.
"""

import contextlib
import hashlib
import io
import json
import os
import sqlite3
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from relay.errors import InputRejected, RelayError
from relay.store.archive import archive_reader, archive_writer
from relay.store.database_files import retire_log, take_lock
from relay.store.writer import FILE

FORMAT = 1
MANIFEST = "manifest.json"
MOST_FILES = 50_000
MOST_BYTES = 64 << 30
_SITE = ("relay.yaml", "network.yaml", "policies", "keys")
_STATE = ("host_keys", "applied", archive_reader.DIRECTORY)


@dataclass(frozen=True, slots=True)
class Contents:
    """The manifest of a backup."""

    version: str  # of the program that made it
    made: int  # Unix seconds
    files: dict[str, str]  # name -> SHA-256


def make(site: Path, state: Path, file: Path, version: str) -> Contents:
    """Save site and state to `file`, which must not exist. Raises RelayError; then there is no such file."""
    digests: dict[str, str] = {}
    temporary = file.with_name(f".{file.name}.new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise RelayError(f"{temporary} is in the way", f"is another backup running? else: rm {temporary}") from None
    except OSError as error:
        raise RelayError(f"{file}: {error.strerror}", "name another place for the backup") from None
    try:
        if file.exists():
            raise RelayError(f"{file} exists already", "name a new file: a backup is never written over")
        with os.fdopen(descriptor, "wb") as raw:
            with tarfile.open(fileobj=raw, mode="w:gz", format=tarfile.PAX_FORMAT, compresslevel=6) as tar:
                with _no_archiving(state):
                    # the database first: rows that are archived meanwhile are in both then, and not in neither
                    with _database_copy(state) as copy:
                        if copy is not None:
                            _add_file(tar, f"state/{FILE}", copy, digests)
                    for name, path in _files(site, state):
                        _add_file(tar, name, path, digests)
                contents = Contents(version, int(time.time()), digests)
                manifest = {"format": FORMAT, "version": version, "made": contents.made, "files": digests}
                _add(tar, MANIFEST, json.dumps(manifest, indent=1).encode())
            raw.flush()
            os.fsync(raw.fileno())
        temporary.rename(file)
    except (OSError, sqlite3.Error) as error:
        raise RelayError(f"the backup failed: {error}", "is there room, and do you run it as root?") from error
    finally:
        temporary.unlink(missing_ok=True)
    return contents


def restore(
    file: Path, site: Path, state: Path, unpacked: Callable[[Contents, Path], None] = lambda contents, state: None
) -> tuple[Contents, tuple[Path, ...]]:
    """Restore site and state from `file`. Returns the manifest and the new paths of the files that were replaced.

    Everything is unpacked into a temporary directory and checked there, so a damaged backup changes nothing. `unpacked`
    is called with the complete state before it is moved into place; files that it writes there are moved with it.

    Raises InputRejected for a file that is not a whole backup, StoreUnavailable while a relay runs on that state.
    """
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = take_lock(state / FILE)  # no relay may start meanwhile; a damaged database is no hindrance
    moved: list[Path] = []
    try:
        with tempfile.TemporaryDirectory(prefix=".restore-", dir=state) as scratch:
            contents = _unpack(file, Path(scratch))
            (Path(scratch) / "state").mkdir(mode=0o700, exist_ok=True)
            unpacked(contents, Path(scratch) / "state")
            stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
            _give(Path(scratch) / "state", state)
            site.mkdir(mode=0o750, parents=True, exist_ok=True)
            _give(Path(scratch) / "site", site)
            retire_log(state / FILE, state / f"{FILE}.before-{stamp}")
            for place, root, names in ((site, "site", _SITE), (state, "state", (*_STATE, FILE))):
                for name in names:
                    _replace(Path(scratch) / root / name, place / name, stamp, moved)
    finally:
        os.close(lock)
    return contents, tuple(moved)


def _replace(new: Path, old: Path, stamp: str, moved: list[Path]) -> None:
    if old.exists():
        aside = old.with_name(f"{old.name}.before-{stamp}")
        old.rename(aside)
        moved.append(aside)
    if new.exists():
        new.rename(old)


def _unpack(file: Path, scratch: Path) -> Contents:
    found: dict[str, str] = {}
    manifest: dict[str, object] = {}
    size = 0
    try:
        with tarfile.open(file, mode="r:gz") as tar:
            for member in tar:
                size += member.size
                if not member.isfile() or not _is_ours(member.name) or len(found) > MOST_FILES or size > MOST_BYTES:
                    raise InputRejected(f"{file} holds {member.name[:80]!r}, which no backup of a relay does")
                source = tar.extractfile(member)
                assert source is not None
                if member.name == MANIFEST:
                    manifest = json.loads(source.read(32 << 20))
                    continue
                target = scratch / member.name
                target.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
                digest = hashlib.sha256()
                with target.open("xb") as out:
                    while piece := source.read(1 << 20):
                        digest.update(piece)
                        out.write(piece)
                target.chmod(member.mode & 0o640)
                found[member.name] = digest.hexdigest()
    except (OSError, tarfile.TarError, EOFError, ValueError) as error:
        raise InputRejected(
            f"{file} is not a whole backup: {error}", "name a file that `relayctl backup` made"
        ) from None
    if manifest.get("format") != FORMAT or manifest.get("files") != found:
        raise InputRejected(f"{file} is damaged: its files are not those of its manifest", "take another backup")
    made = manifest.get("made")
    return Contents(str(manifest.get("version")), made if isinstance(made, int) else 0, found)


def _is_ours(name: str) -> bool:
    parts = PurePosixPath(name).parts
    if name == MANIFEST:
        return True
    if len(parts) < 2 or any(part in ("..", ".") for part in parts) or name.startswith("/") or "\\" in name:
        return False
    return (parts[0] == "site" and parts[1] in _SITE) or (parts[0] == "state" and parts[1] in (*_STATE, FILE))


def _files(site: Path, state: Path) -> Iterator[tuple[str, Path]]:
    for root, place, names in (("site", site, _SITE), ("state", state, _STATE)):
        for name in names:
            top = place / name
            for path in [top] if top.is_file() else sorted(top.rglob("*")):
                if path.is_file() and not path.is_symlink():
                    yield f"{root}/{path.relative_to(place).as_posix()}", path


@contextlib.contextmanager
def _database_copy(state: Path) -> Iterator[Path | None]:
    if not (state / FILE).exists():
        yield None
        return
    with tempfile.TemporaryDirectory(prefix=".backup-", dir=state) as scratch:
        copy = Path(scratch) / FILE
        with (
            contextlib.closing(sqlite3.connect(f"{(state / FILE).absolute().as_uri()}?mode=ro", uri=True)) as source,
            contextlib.closing(sqlite3.connect(copy)) as target,
        ):
            # in one step: a relay that writes between two would have it begin anew each time, perhaps for ever; it
            # goes on writing meanwhile, and its log grows by that much
            source.backup(target)
            target.execute("PRAGMA journal_mode = DELETE").fetchone()
        yield copy


@contextlib.contextmanager
def _no_archiving(state: Path) -> Iterator[None]:
    """Hold the lock of the archives, so that no rows move and no archive is deleted meanwhile."""
    if not (state / archive_reader.DIRECTORY).exists():
        yield
        return
    with archive_writer.alone(state):
        yield


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = len(data), 0o640, int(time.time())
    tar.addfile(entry, io.BytesIO(data))


def _add_file(tar: tarfile.TarFile, name: str, path: Path, digests: dict[str, str]) -> None:
    entry = tarfile.TarInfo(name)
    secret = name.startswith((f"state/{FILE}", "state/host_keys/", f"state/{archive_reader.DIRECTORY}/"))
    mode = 0o600 if secret else 0o640
    entry.size, entry.mode, entry.mtime = path.stat().st_size, mode, int(time.time())
    with path.open("rb") as file:
        digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        tar.addfile(entry, file)


def _give(tree: Path, to: Path) -> None:
    """Give the files that root unpacked to the owner of the directory that they are moved to."""
    if os.geteuid() != 0 or not tree.exists():
        return
    owner = to.stat()
    for path in [tree, *tree.rglob("*")]:
        os.chown(path, owner.st_uid, owner.st_gid)

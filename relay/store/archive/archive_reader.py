"""Read access to archived rows, oldest or newest first.

`STATE/archive` holds one file for each range of rows that left the database, and `manifest.jsonl`, which alone says
which files count: a file that it does not name was never finished and is ignored. Every file is read whole and
compared with the manifest's SHA-256 before a row of it is used (`archive_job` writes them).

From the entry in the manifest until the deletion from the database, rows are in both places. A reader of
both takes from the database only the rows behind `last`.
"""

import gzip
import io
import json
import os
import zlib
from collections.abc import Callable, Collection, Iterator
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from relay.core import ids
from relay.core.audit import archive_format
from relay.core.audit.archive_format import LONGEST_LINE, ArchiveEntry
from relay.core.audit.audit_query import AuditQuery, full_fingerprint
from relay.core.audit.hash_chain import Row, digest
from relay.errors import InputRejected, StoreUnavailable
from relay.store.rows.row_decoding import VerifierRow

_Taken = TypeVar("_Taken")

DIRECTORY = "archive"  # in the state directory
MANIFEST = "manifest.jsonl"
MOST_BYTES = 1 << 30  # of a file that is read into memory; 100,000 rows are about 4 MB
MOST_ENTRIES = 100_000
_SET_BACK = 1_000_000  # microseconds: a clock that was set back by a second is no reason to find nothing
_SEARCHED = 366  # archives that one look-up of an id reads at most: a connection that lasts for a year


class ArchiveReader:
    """The archives of one state directory; nothing is kept open. Raises StoreUnavailable, naming the file."""

    def __init__(self, state: Path) -> None:
        self.directory = state / DIRECTORY

    def entries(self) -> tuple[ArchiveEntry, ...]:
        """Every archive there ever was, oldest first, discarded ones too; each follows the one before."""
        path = self.directory / MANIFEST
        found: list[ArchiveEntry] = []
        try:
            with path.open("rb") as file:
                while line := file.readline(LONGEST_LINE):
                    entry = archive_format.entry_of(line.decode().rstrip("\n"))
                    if found and (entry.first != found[-1].last + 1 or entry.prev != found[-1].hash):
                        raise InputRejected(f"{entry.file} does not follow {found[-1].file}")
                    found.append(entry)
                    if len(found) > MOST_ENTRIES:
                        raise InputRejected(f"there are more than {MOST_ENTRIES} archives")
        except FileNotFoundError:
            return ()
        except (InputRejected, UnicodeDecodeError) as error:
            raise _bad(path, f"line {len(found) + 1}: {error}") from error
        except OSError as error:
            raise _bad(path, str(error.strerror)) from error
        return tuple(found)

    def last(self) -> int:
        """The number of the last row that is archived, 0 when none is."""
        return max((entry.last for entry in self.entries()), default=0)

    def lines(self, after: int = 0, until: int | None = None) -> Iterator[VerifierRow]:
        """Every archived row behind row `after`, up to row `until`, as `Reader.lines` gives it.

        Numbers jump where an archive was discarded. The hashes are what the file says: they are for the verifier.
        """
        for entry in self._kept(after, until):
            for _, hash, text in self.texts(entry):
                seq, time, name, id, forward = _believed(self.directory / entry.file, archive_format.facts, text)
                if seq > after and (until is None or seq <= until):
                    yield VerifierRow(seq, time, name, id, forward, hash, text)

    def walk(self, after: int = 0, until: int | None = None, question: AuditQuery | None = None) -> Iterator[Row]:
        """Every archived row behind row `after`, up to row `until`, that answers `question`, oldest first."""
        for entry in self._kept(after, until):
            if question is None or _may_answer(entry, question):
                for row in self._rows(entry, _needles(question)):
                    within = row.seq > after and (until is None or row.seq <= until)
                    if within and (question is None or question.matches(row)):
                        yield row

    def search(self, question: AuditQuery, before: int | None = None, limit: int = 100) -> list[Row]:
        """Up to `limit` archived rows that answer `question`, newest first, all before row `before`."""
        found: list[Row] = []
        for entry in reversed(self._kept(0, before - 1 if before is not None else None)):
            if not _may_answer(entry, question):
                continue
            rows = [row for row in self._rows(entry, _needles(question)) if question.matches(row)]
            found += [row for row in reversed(rows) if before is None or row.seq < before]
            if len(found) >= limit:
                break
        return found[:limit]

    def by_id(self, id: str) -> Row | None:
        """The archived row of the event with this id."""
        return next((row for rows in self._told(id, "id") for row in rows if row.event.id == id), None)

    def by_forward(self, forward: str) -> list[Row]:
        """The archived rows of one forward."""
        return self._story(forward, "forward", "forward.closed")

    def by_forwards(self, forwards: Collection[str]) -> dict[str, list[Row]]:
        """The archived rows of each of these forwards, as far as there are any: each archive is read once for all."""
        wanted, found = set(forwards), dict[str, list[Row]]()
        made = min((ids.made_at(id) for id in wanted if ids.packed(id)), default=0)
        for entry in self._kept(0, None):
            if not wanted:
                break
            if entry.until < made - _SET_BACK and all(map(ids.packed, wanted)):
                continue
            path = self.directory / entry.file
            for prev, hash, text in self.texts(entry):
                _, _, name, _, forward = _believed(path, archive_format.facts, text)
                if forward in wanted:
                    row = _believed(path, lambda text: archive_format.row(prev, hash, text), text)  # noqa: B023 - called at once
                    found.setdefault(forward, []).append(row)
                    if name == "forward.closed":
                        wanted.discard(forward)
        return found

    def by_connection(self, connection: str, limit: int = 10_000) -> list[Row]:
        """The archived rows of one connection, oldest first."""
        return self._story(connection, "connection", "connection.closed")[:limit]

    def check(self, entry: ArchiveEntry, file: Path | None = None) -> None:
        """Check that the file is the one of the manifest, and the hash of every row.

        `file`: where it is while it has no name yet.
        """
        path = file or self.directory / entry.file
        seq, hash, since, until = entry.first - 1, entry.prev, 1 << 62, -(1 << 62)
        for _, told, text in self.texts(entry, path):
            number, time, *_ = _believed(path, archive_format.facts, text)
            seq += 1
            if number != seq:
                raise _bad(path, f"row {seq} is missing, row {number} follows")
            if digest(hash, text) != told:
                raise _bad(path, f"row {seq} is not what was written")
            hash, since, until = told, min(since, time), max(until, time)
        if (seq, hash, since, until) != (entry.last, entry.hash, entry.since, entry.until):
            raise _bad(path, f"it ends with row {seq}, and is not what the manifest says")

    def present(self, entry: ArchiveEntry) -> None:
        """Check that the file exists with its size: quick, for `doctor`."""
        path = self.directory / entry.file
        try:
            size = path.lstat().st_size
        except OSError as error:
            raise _bad(path, str(error.strerror)) from error
        if size != entry.bytes:
            raise _bad(path, f"it has {size} bytes, not {entry.bytes}")

    def texts(self, entry: ArchiveEntry, file: Path | None = None) -> Iterator[tuple[str, str, str]]:
        """Predecessor's hash, hash and canonical text of each row, as the file says; its bytes are the manifest's."""
        path = file or self.directory / entry.file
        left, prev = entry.size, entry.prev
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(_bytes(path, entry))) as lines:
                header = lines.readline(LONGEST_LINE).decode()
                if header != entry.header() + "\n":
                    raise InputRejected("its header is not the manifest's")
                left -= len(header.encode())
                while line := lines.readline(LONGEST_LINE):
                    left -= len(line)
                    if left < 0:
                        raise InputRejected(f"it holds more than {entry.size} bytes")
                    hash, text = archive_format.taken(line.decode().removesuffix("\n"))
                    yield prev, hash, text
                    prev = hash
        except (InputRejected, OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
            raise _bad(path, str(error)) from error

    def _kept(self, after: int, until: int | None) -> tuple[ArchiveEntry, ...]:
        return tuple(
            entry
            for entry in self.entries()
            if entry.kept and entry.last > after and (until is None or entry.first <= until)
        )

    def _rows(self, entry: ArchiveEntry, needles: tuple[tuple[str, ...], ...] = ()) -> Iterator[Row]:
        """The rows whose text contains one of each of `needles`; the others are not parsed."""
        for prev, hash, text in self.texts(entry):
            if all(any(needle in text for needle in some) for some in needles):
                yield _believed(self.directory / entry.file, lambda text: archive_format.row(prev, hash, text), text)  # noqa: B023 - called at once

    def _told(self, id: str, key: str) -> Iterator[Iterator[Row]]:
        """Rows of each archive, oldest first, in which `key` is `id`, from when the id was made."""
        try:
            made = ids.made_at(ids.parse(id))
        except InputRejected:
            made = None
        needles = ((f'"{key}":{json.dumps(id, ensure_ascii=False)}',),)
        read = 0
        for entry in self._kept(0, None):
            if made is not None and entry.until < made - _SET_BACK:
                continue
            read += 1
            if read > _SEARCHED:
                return
            yield self._rows(entry, needles)

    def _story(self, id: str, key: str, end: str) -> list[Row]:
        found: list[Row] = []
        for rows in self._told(id, key):
            found += [row for row in rows if row.event.fields.get(key) == id]
            if any(row.event.name == end for row in found):
                break  # what was written right behind the end stands in the same archive
        return found


def _bytes(path: Path, entry: ArchiveEntry) -> bytes:
    """The contents of the file, compared with the manifest. Raises OSError, InputRejected."""
    if entry.bytes > MOST_BYTES:
        raise InputRejected(f"the manifest gives it {entry.bytes} bytes; more than {MOST_BYTES} are not read")
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(entry.bytes + 1)
    if len(data) != entry.bytes or sha256(data).hexdigest() != entry.sha256:
        raise InputRejected("its bytes are not those that were archived")
    return data


def _may_answer(entry: ArchiveEntry, question: AuditQuery) -> bool:
    """Whether the archive may have a matching row, according to the manifest."""
    if question.since is not None and entry.until < question.since:
        return False
    if question.until is not None and entry.since >= question.until:
        return False
    return not question.person or entry.persons is None or question.person in entry.persons


def _needles(question: AuditQuery | None) -> tuple[tuple[str, ...], ...]:
    """Texts of which a matching row contains one of each tuple; `AuditQuery.matches` decides."""
    if question is None:
        return ()
    needles: list[tuple[str, ...]] = []
    if question.person:
        needles.append((f'"person":{json.dumps(question.person, ensure_ascii=False)}',))
    if question.fingerprint:
        prefix = json.dumps(full_fingerprint(question.fingerprint), ensure_ascii=False)[:-1]
        needles.append((f'"fingerprint":{prefix}',))
    if question.names():
        needles.append(tuple(f'"name":{json.dumps(name, ensure_ascii=False)}' for name in question.names()))
    return tuple(needles)


def _believed(path: Path, take: Callable[[str], _Taken], text: str) -> _Taken:
    try:
        return take(text)
    except InputRejected as error:
        raise _bad(path, str(error)) from error


def _bad(path: Path, what: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"the archive {path} cannot be used: {what}",
        "bring it back from a backup, or: relayctl audit archive --damaged; nothing was deleted",
    )

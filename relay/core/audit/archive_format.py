"""Format of archives of the audit log and of their manifest, and the choice of rows to archive.

An archive is JSON lines: a header, then `{"hash":HASH,"row":TEXT}` for each row, where TEXT is the row's canonical text
(relay.core.audit.hash_chain) byte for byte. Standard tools can verify an archive.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from relay.core.audit.event import Event, Value
from relay.core.audit.hash_chain import Row
from relay.core.settings import Settings
from relay.errors import InputRejected

FORMAT = 1
SEALED = "audit.sealed"  # an archive ends with such a row, so all of its rows are signed
MOST_PERSONS = 200  # persons listed in the manifest; an archive with more must be read
LONGEST_LINE = 1 << 20  # of an archive or the manifest: a row has some thirty fields of at most 1,024 characters
DAY = 86_400_000_000  # microseconds
_HEX = re.compile(r"[0-9a-f]{64}")
_NODE = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
# Inside a JSON string every quotation mark has a backslash before it, so these find keys only.
_END = re.compile(
    r'\},"id":"([^"\\]*)","name":"([^"\\]*)","node":"[^"\\]*","schema":\d{1,9},"seq":(\d{1,18}),"time":(-?\d{1,18})\}\Z',
    re.A,
)
_FORWARD = re.compile(r'[{,]"forward":"([^"\\]*)"')
_PERSON = re.compile(r'[{,]"person":("(?:[^"\\]|\\.)*")')
_START, _MIDDLE = '{"hash":"', '","row":'
_TEXT = len(_START) + 64 + len(_MIDDLE)


@dataclass(frozen=True, slots=True)
class ArchiveEntry:
    """An archive's entry in the manifest. Times are UTC microseconds."""

    node: str
    first: int  # numbers of its first and last row
    last: int
    prev: str  # hash of the row before the first, as in its header
    hash: str  # of the last row
    since: int  # time of its earliest and its latest row
    until: int
    persons: tuple[str, ...] | None  # sorted; None: too many to list
    size: int = 0  # bytes of its lines
    bytes: int = 0  # of the file
    sha256: str = ""  # of the file
    id: str = ""  # of the row audit.archived, chosen in advance so that a resent row is not recorded twice
    at: int = 0  # time of that row
    dropped_id: str = ""  # of the row audit.discarded; "": the file is kept
    dropped_at: int = 0

    @property
    def file(self) -> str:
        """The name of the archive's file."""
        return f"{self.node}-{self.first}-{self.last}.jsonl.gz"

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self.last - self.first + 1

    @property
    def kept(self) -> bool:
        """Whether the file was not discarded."""
        return not self.dropped_id

    def header(self) -> str:
        """The first line of the file."""
        loaded: dict[str, Any] = {
            "archive": FORMAT,
            **{key: getattr(self, key) for key in ("node", "first", "last", "prev", "hash", "since", "until")},
        }
        return _json(loaded)

    def archived(self) -> Event:
        """The event about the archive; durable before a row leaves the database."""
        return Event(self.id, self.at, "audit.archived", self._fields())

    def discarded(self, by: Mapping[str, Value]) -> Event:
        """The event about the discarded file and its author; durable before the file is deleted."""
        return Event(self.dropped_id, self.dropped_at, "audit.discarded", {**self._fields(), **by})

    def _fields(self) -> dict[str, Value]:
        loaded: dict[str, Value] = {
            "file": self.file,
            "first": self.first,
            "last": self.last,
            "count": self.rows,
            "digest": self.sha256,
        }
        return {**loaded, "since": self.since // 1_000_000, "until": self.until // 1_000_000}


def node_of(name: str) -> str:
    """A node's name in a file name."""
    return name if _NODE.fullmatch(name) else "relay"


def line(hash: str, text: str) -> str:
    """The line of one row."""
    return f"{_START}{hash}{_MIDDLE}{text}}}"


def taken(line: str) -> tuple[str, str]:
    """Hash and canonical text of the row in `line`. Raises InputRejected."""
    hash = line[len(_START) : len(_START) + 64]
    if not (line.startswith(_START) and line[:_TEXT].endswith(_MIDDLE) and line.endswith("}") and _HEX.fullmatch(hash)):
        raise InputRejected(f"{line[:40]!r} is no row of an archive")
    return hash, line[_TEXT:-1]


def row(prev: str, hash: str, text: str) -> Row:
    """The row with this canonical text. Raises InputRejected for a text that is none."""
    loaded = _object(text)
    try:
        values = loaded["fields"]
        event = Event(loaded["id"], loaded["time"], loaded["name"], values)
        parsed = Row(loaded["node"], loaded["seq"], prev, hash, event, loaded["schema"])
    except KeyError as error:
        raise InputRejected(f"a row lacks {error}") from None
    if not (
        isinstance(values, dict)
        and all(value is None or type(value) in (str, int, bool) for value in values.values())
        and {type(event.id), type(event.name), type(parsed.node)} == {str}
        and {type(event.time), type(parsed.seq), type(parsed.schema)} == {int}
    ):
        raise InputRejected(f"{text[:40]!r} is not a row's text")
    return parsed


def facts(text: str) -> tuple[int, int, str, str, str | None]:
    """Number, time, name, id and forward of the row with this canonical text. Raises InputRejected."""
    end = _END.search(text)
    if end is None:  # an id or a name that JSON writes with a backslash
        parsed = row("", "", text)
        forward = parsed.event.fields.get("forward")
        return (
            *(parsed.seq, parsed.event.time, parsed.event.name, parsed.event.id),
            forward if isinstance(forward, str) else None,
        )
    id, name, seq, time = end.groups()
    at = _FORWARD.search(text, 0, end.start()) if name.startswith("forward.") else None
    return int(seq), int(time), name, id, at[1] if at else None


def person_of(text: str) -> str | None:
    """The person in the row with this canonical text."""
    match = _PERSON.search(text)
    return json.loads(match[1]) if match else None


def entry_line(entry: ArchiveEntry) -> str:
    """The line of the manifest."""
    return _json({"archive": FORMAT, "file": entry.file, "rows": entry.rows, **asdict(entry)})


def entry_of(line: str) -> ArchiveEntry:
    """The entry in a line of the manifest. Raises InputRejected: no name of a file that is not ours, no bad number."""
    loaded = _object(line)
    if loaded.get("archive") != FORMAT:
        raise InputRejected(f"format {str(loaded.get('archive'))[:20]} is not {FORMAT}", "use a newer relayctl")
    persons = loaded.get("persons")
    if persons is not None and not (isinstance(persons, list) and all(isinstance(name, str) for name in persons)):
        raise InputRejected("persons is no list of names")
    values: dict[str, Any] = {"persons": persons if persons is None else tuple(persons)}
    for field in fields(ArchiveEntry):
        if field.name == "persons":
            continue
        values[field.name] = loaded.get(field.name)
        if type(values[field.name]) is not field.type:
            raise InputRejected(f"{field.name} is {str(values[field.name])[:40]!r}")
    entry = ArchiveEntry(**values)
    if not (
        _NODE.fullmatch(entry.node)
        and 0 < entry.first <= entry.last < 1 << 62
        and all(map(_HEX.fullmatch, (entry.prev, entry.hash, entry.sha256)))
        and entry.size > 0
        and entry.bytes > 0
        and entry.file == loaded.get("file")
    ):
        raise InputRejected(f"{line[:60]!r} is no archive's entry")
    return entry


def dropped(entry: ArchiveEntry, id: str, at: int) -> ArchiveEntry:
    """`entry` when its file is given up."""
    return replace(entry, dropped_id=id, dropped_at=at)


# ---- choice of rows


@dataclass(frozen=True, slots=True)
class RetentionSettings:
    """How long rows stay in the database, and its maximum size."""

    keep: int  # microseconds
    most: int  # bytes; 0: no bound


def retention(settings: Settings) -> RetentionSettings:
    """The retention in these settings."""
    return RetentionSettings(settings.audit_keep_days * DAY, settings.audit_max_size)


@dataclass(frozen=True, slots=True)
class DatabaseUsage:
    """The state of the database, as far as the choice of rows needs it."""

    base: int  # number of the last archived row
    head: int  # number of the last row
    used: int  # bytes in use
    aged: int  # the last row older than Retention.keep
    well_aged: int  # and a day older than that
    settled: int  # the last row that cannot be sent again (see archive_job.SETTLED)
    open: int  # the opening row of the oldest open forward; 0 without one


def wanted(retention: RetentionSettings, now: DatabaseUsage) -> int:
    """The last row to archive by the settings, before the bound of `allowed`; 0 for none.

    By age at most once a day, so that a quiet relay does not write an archive an hour. By size down to nine tenths, so
    that not every new row causes another archive.
    """
    last = now.aged if now.well_aged > now.base else 0
    if retention.most and now.used > retention.most and now.head > now.base:
        share = (now.used - retention.most * 9 // 10) / now.used
        last = max(last, now.base + int((now.head - now.base) * share) + 1)
    return last


def allowed(now: DatabaseUsage, last: int) -> int:
    """`last`, reduced to rows that are settled and not needed by an open forward."""
    return min(last, now.settled, now.head, now.open - 1 if now.open else now.head)


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InputRejected(f"{text[:40]!r} is no JSON object")
    return value

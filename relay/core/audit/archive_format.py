"""What stands in an archive of the audit log and in the manifest of all archives, and which rows go there next?

An archive is JSON lines: a header, then `{"hash":HASH,"row":TEXT}` for each row, where TEXT is the row's canonical text
(relay.core.audit.hash_chain) byte for byte. So an archive is proven with standard tools, and needs nothing else.
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
SEALED = "audit.sealed"  # an archive ends with such a row: what it holds is signed
MOST_PERSONS = 200  # named in the manifest; with more an archive is read to find out
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
    """One archive, as the manifest knows it. Times are UTC microseconds."""

    node: str
    first: int  # numbers of its first and last row
    last: int
    prev: str  # hash of the row before the first, as in its header
    hash: str  # of the last row
    since: int  # time of its earliest and its latest row
    until: int
    persons: tuple[str, ...] | None  # who is in it, sorted; None: too many to name
    size: int = 0  # bytes of its lines
    bytes: int = 0  # of the file
    sha256: str = ""  # of the file
    id: str = ""  # of the row audit.archived, chosen before it is written: however often it is sent, it is one row
    at: int = 0  # and its time
    dropped_id: str = ""  # the same of audit.discarded; "": the file is kept
    dropped_at: int = 0

    @property
    def file(self) -> str:
        """Its name in the directory of archives."""
        return f"{self.node}-{self.first}-{self.last}.jsonl.gz"

    @property
    def rows(self) -> int:
        """How many rows it holds."""
        return self.last - self.first + 1

    @property
    def kept(self) -> bool:
        """Whether its file is to be there: it was not discarded."""
        return not self.dropped_id

    def header(self) -> str:
        """The first line of its file."""
        told: dict[str, Any] = {
            "archive": FORMAT,
            **{key: getattr(self, key) for key in ("node", "first", "last", "prev", "hash", "since", "until")},
        }
        return _json(told)

    def archived(self) -> Event:
        """The row that says so; it is durable before a row leaves the database."""
        return Event(self.id, self.at, "audit.archived", self._told())

    def discarded(self, by: Mapping[str, Value]) -> Event:
        """The row that says that its file was given up, and by whom; it is durable before the file goes."""
        return Event(self.dropped_id, self.dropped_at, "audit.discarded", {**self._told(), **by})

    def _told(self) -> dict[str, Value]:
        told: dict[str, Value] = {
            "file": self.file,
            "first": self.first,
            "last": self.last,
            "count": self.rows,
            "digest": self.sha256,
        }
        return {**told, "since": self.since // 1_000_000, "until": self.until // 1_000_000}


def node_of(name: str) -> str:
    """A node's name as it can stand in a file's name."""
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
    told = _object(text)
    try:
        values = told["fields"]
        event = Event(told["id"], told["time"], told["name"], values)
        found = Row(told["node"], told["seq"], prev, hash, event, told["schema"])
    except KeyError as error:
        raise InputRejected(f"a row lacks {error}") from None
    if not (
        isinstance(values, dict)
        and all(value is None or type(value) in (str, int, bool) for value in values.values())
        and {type(event.id), type(event.name), type(found.node)} == {str}
        and {type(event.time), type(found.seq), type(found.schema)} == {int}
    ):
        raise InputRejected(f"{text[:40]!r} is not a row's text")
    return found


def facts(text: str) -> tuple[int, int, str, str, str | None]:
    """Number, time, name, id and forward of the row with this canonical text. Raises InputRejected."""
    end = _END.search(text)
    if end is None:  # an id or a name that JSON writes with a backslash
        found = row("", "", text)
        forward = found.event.fields.get("forward")
        return (
            *(found.seq, found.event.time, found.event.name, found.event.id),
            forward if isinstance(forward, str) else None,
        )
    id, name, seq, time = end.groups()
    at = _FORWARD.search(text, 0, end.start()) if name.startswith("forward.") else None
    return int(seq), int(time), name, id, at[1] if at else None


def person_of(text: str) -> str | None:
    """Who is in the row with this canonical text."""
    found = _PERSON.search(text)
    return json.loads(found[1]) if found else None


def entry_line(entry: ArchiveEntry) -> str:
    """The line of the manifest."""
    return _json({"archive": FORMAT, "file": entry.file, "rows": entry.rows, **asdict(entry)})


def entry_of(line: str) -> ArchiveEntry:
    """The entry in a line of the manifest. Raises InputRejected: no name of a file that is not ours, no bad number."""
    told = _object(line)
    if told.get("archive") != FORMAT:
        raise InputRejected(f"format {str(told.get('archive'))[:20]} is not {FORMAT}", "use a newer relayctl")
    persons = told.get("persons")
    if persons is not None and not (isinstance(persons, list) and all(isinstance(name, str) for name in persons)):
        raise InputRejected("persons is no list of names")
    values: dict[str, Any] = {"persons": persons if persons is None else tuple(persons)}
    for field in fields(ArchiveEntry):
        if field.name == "persons":
            continue
        values[field.name] = told.get(field.name)
        if type(values[field.name]) is not field.type:
            raise InputRejected(f"{field.name} is {str(values[field.name])[:40]!r}")
    entry = ArchiveEntry(**values)
    if not (
        _NODE.fullmatch(entry.node)
        and 0 < entry.first <= entry.last < 1 << 62
        and all(map(_HEX.fullmatch, (entry.prev, entry.hash, entry.sha256)))
        and entry.size > 0
        and entry.bytes > 0
        and entry.file == told.get("file")
    ):
        raise InputRejected(f"{line[:60]!r} is no archive's entry")
    return entry


def dropped(entry: ArchiveEntry, id: str, at: int) -> ArchiveEntry:
    """`entry` when its file is given up."""
    return replace(entry, dropped_id=id, dropped_at=at)


# ---- which rows


@dataclass(frozen=True, slots=True)
class RetentionSettings:
    """What the settings say: how long rows stay in the database, and how large that may become."""

    keep: int  # microseconds
    most: int  # bytes; 0: no bound


def retention(settings: Settings) -> RetentionSettings:
    """What these settings say."""
    return RetentionSettings(settings.audit_keep_days * DAY, settings.audit_max_size)


@dataclass(frozen=True, slots=True)
class DatabaseUsage:
    """How the database stands. `older(us)` of it is asked by the caller: the last row with only older ones before."""

    base: int  # number of the last row that is archived
    head: int  # of the last row
    used: int  # bytes of the database that are in use
    aged: int  # the last row older than Retention.keep
    well_aged: int  # and a day older than that
    settled: int  # the last row that can be no resent one's twin (see archiving.SETTLED)
    open: int  # the opening row of the oldest open forward; 0: none is open


def wanted(retention: RetentionSettings, now: DatabaseUsage) -> int:
    """The number of the row up to which the settings want rows archived (`allowed` says how far that goes); 0: none.

    For their age once a day, so that a quiet relay does not leave an archive an hour. For the size down to nine tenths,
    so that not every row that comes pushes one out.
    """
    last = now.aged if now.well_aged > now.base else 0
    if retention.most and now.used > retention.most and now.head > now.base:
        share = (now.used - retention.most * 9 // 10) / now.used
        last = max(last, now.base + int((now.head - now.base) * share) + 1)
    return last


def allowed(now: DatabaseUsage, last: int) -> int:
    """`last`, or the last row before it that may be archived: nothing too new, nothing that a forward still needs."""
    return min(last, now.settled, now.head, now.open - 1 if now.open else now.head)


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InputRejected(f"{text[:40]!r} is no JSON object")
    return found

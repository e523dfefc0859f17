"""What does a window of the log add up to? One walk over its rows, in the order in which they were written.

Values in, values out: the page (`page`) and the digest (`news`) tell what stands here. Everything is bounded by how
many persons, places and keys there are, or cut where strangers could make it grow.
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo

from relay.core.chain import Row
from relay.core.event import Value
from relay.core.question import host_of
from relay.review.acquaintance import Acquaintance, Place, network, place_of, program, text
from relay.review.rows import Attempts

TOP = 20  # forwards in a list of the longest or largest
MOST = 2000  # of anything that one person could make thousands of: firsts, notable rows, outages, sources

HOUR, DAY = 3_600_000_000, 86_400_000_000  # microseconds
# Rows that are told one by one: somebody changed the relay or its law, or the relay protected itself.
NOTABLE = frozenset(
    "key.added key.revoked key.removed key.frozen key.thawed site.applied site.rejected server.started server.stopped "
    "host_key.added host_key.retired backup.made backup.restored connection.killed ban.begun ban.ended scan.seen "
    "limit.reached audit.lost audit.key audit.archived".split()
)


@dataclass(frozen=True, slots=True)
class Window:
    """From `since` to before `until`, UTC microseconds, looked at in the site's time zone."""

    since: int
    until: int
    zone: tzinfo

    @property
    def step(self) -> str:
        """What one column of a chart stands for: thirty or so of them are read easily, a hundred just so."""
        length = self.until - self.since
        return "hour" if length <= 3 * DAY else "day" if length <= 92 * DAY else "week"

    def start(self, time: int) -> datetime:
        """The beginning of the column that `time` belongs to, on the site's clocks."""
        local = datetime.fromtimestamp(time // 1_000_000, self.zone).replace(minute=0, second=0, microsecond=0)
        if self.step == "hour":
            return local
        local = local.replace(hour=0, tzinfo=None)  # days by the calendar: one of them may have 23 hours
        return local - timedelta(days=local.weekday()) if self.step == "week" else local

    def starts(self) -> list[datetime]:
        """The beginnings of all columns, oldest first."""
        length = {"hour": HOUR, "day": DAY, "week": 7 * DAY}[self.step]
        times = [*range(self.since, self.until, length // 2), max(self.until - 1, self.since)]
        return list(dict.fromkeys(self.start(time) for time in times))


@dataclass(slots=True)
class Traffic:
    """What went through: counted at a forward's opening, its denial, and (bytes and time) its end."""

    opened: int = 0
    denied: int = 0
    sent: int = 0
    received: int = 0
    duration: int = 0  # microseconds

    @property
    def bytes(self) -> int:
        """Both ways."""
        return self.sent + self.received

    def add(self, other: "Traffic") -> None:
        """Count that too."""
        self.opened += other.opened
        self.denied += other.denied
        self.sent += other.sent
        self.received += other.received
        self.duration += other.duration


@dataclass(frozen=True, slots=True)
class Forward:
    """One forward of the lists of the longest and largest."""

    id: str
    person: str
    client: str
    place: Place
    port: int
    opened: int
    duration: int
    sent: int
    received: int
    reason: str  # how it ended; "" while it is open

    @property
    def bytes(self) -> int:
        """Both ways."""
        return self.sent + self.received


@dataclass(frozen=True, slots=True)
class First:
    """Something that had not been seen before. `kind`: person, key, network, pair, version, program."""

    kind: str
    time: int
    person: str
    what: str  # the fingerprint, network, version or program
    id: str  # to ask `audit show` for
    place: Place = ("", "")  # of a pair
    port: int = 0


@dataclass(slots=True)
class Outage:
    """A zone that could not be reached; `ended` None while it cannot."""

    zone: str
    reason: str
    detail: str
    began: int
    ended: int | None = None
    cut: int = 0  # forwards that it ended


@dataclass(slots=True)
class Denial:
    """Denials of one reason or from one source."""

    count: int = 0
    last: int = 0
    id: str = ""  # of the last one
    persons: Counter[str] = field(default_factory=Counter)
    targets: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Account:
    """The sums of one window."""

    window: Window
    begins: int | None = None  # when the log itself begins, None: it is empty
    rows: int = 0
    head: tuple[int, str] = (0, "")  # number and hash of the last row that was looked at
    total: Traffic = field(default_factory=Traffic)
    logins: int = 0
    columns: dict[datetime, Traffic] = field(default_factory=dict)
    persons: dict[str, Traffic] = field(default_factory=dict)
    pairs: dict[tuple[str, Place], Traffic] = field(default_factory=dict)
    names: dict[Place, str] = field(default_factory=dict)  # as people ask for it
    hours: list[list[int]] = field(default_factory=lambda: [[0] * 24 for _ in range(7)])  # Monday first; openings
    reasons: dict[str, Denial] = field(default_factory=dict)
    sources: dict[str, Denial] = field(default_factory=dict)  # clients' networks
    requests: Counter[tuple[str, str]] = field(default_factory=Counter)  # kind and type of what was refused
    strangers: Counter[tuple[str, str]] = field(default_factory=Counter)  # prefix and kind
    ends: Counter[str] = field(default_factory=Counter)  # how forwards ended
    open: int = 0  # opened in the window and not ended in it
    longest: list[Forward] = field(default_factory=list)
    largest: list[Forward] = field(default_factory=list)
    firsts: list[First] = field(default_factory=list)
    outages: list[Outage] = field(default_factory=list)
    notable: list[Row] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)  # what was cut at MOST
    seals: int = 0
    sealed: Row | None = None  # the last checkpoint
    unsealed: int = 0  # rows behind it
    seen: Acquaintance = field(default_factory=Acquaintance)

    def name(self, place: Place) -> str:
        """A place in one word, as people ask for it."""
        return self.names.get(place) or place[1]


def gather(
    rows: Iterable[Row],
    window: Window,
    past: Acquaintance,
    *,
    attempts: Sequence[Attempts] = (),
    names: Mapping[Place, str] | None = None,
) -> Account:
    """Add up the rows that lie in `window`; `past` is what was seen before it, `names` what the policy calls places."""
    account = Account(window, names=dict(names or {}))
    account.columns = {start: Traffic() for start in window.starts()}
    ledger = _Ledger(account, past)
    for row in rows:
        account.begins = row.event.time if account.begins is None else account.begins
        if window.since <= row.event.time < window.until:
            ledger.take(row)
        account.head = row.seq, row.hash
    for attempt in attempts:
        account.strangers[attempt.prefix, attempt.kind] += attempt.count
    ledger.finish()
    return account


class _Ledger:
    """Takes rows one by one. The names of places that the policy knows are kept, others are learnt from the rows."""

    def __init__(self, account: Account, past: Acquaintance) -> None:
        self._account, self._past = account, past
        self._given = frozenset(account.names)
        self._open: dict[str, Row] = {}
        self._longest: list[tuple[int, int, Forward]] = []
        self._largest: list[tuple[int, int, Forward]] = []
        self._down: dict[str, Outage] = {}
        self._column: tuple[int, Traffic, int] = (-1, Traffic(), 0)

    def take(self, row: Row) -> None:
        account, name = self._account, row.event.name
        account.rows += 1
        account.unsealed += 1
        match name:
            case "forward.opened":
                self._opened(row)
            case "forward.closed":
                self._closed(row)
            case "forward.denied":
                self._denied(row)
            case "login.succeeded":
                account.logins += 1
                self._meet(row)
            case "request.refused":
                kind = text(row.event.fields, "kind"), text(row.event.fields, "type")
                if kind in account.requests or len(account.requests) < MOST:
                    account.requests[kind] += number(row.event.fields, "count") or 1
            case "zone.down" | "zone.up":
                self._zone(row)
            case "audit.sealed":
                account.seals, account.sealed, account.unsealed = account.seals + 1, row, 0
            case _ if name in NOTABLE:
                account.notable.append(row)
                if len(account.notable) > MOST:
                    account.left_out["notable"] += 1
                    del account.notable[0]

    def finish(self) -> None:
        account, until = self._account, self._account.window.until
        for row in self._open.values():
            self._rank(row, row.event.time, until - row.event.time, 0, 0, "")
        account.open = len(self._open)
        account.longest = [forward for _, _, forward in sorted(self._longest, reverse=True)]
        account.largest = [forward for _, _, forward in sorted(self._largest, reverse=True) if forward.bytes]

    def _opened(self, row: Row) -> None:
        account, fields = self._account, row.event.fields
        self._meet(row)
        self._open[text(fields, "forward")] = row
        self._count(row, Traffic(opened=1))
        local = datetime.fromtimestamp(row.event.time // 1_000_000, account.window.zone)
        account.hours[local.weekday()][local.hour] += 1

    def _closed(self, row: Row) -> None:
        account, fields = self._account, row.event.fields
        opened = self._open.pop(text(fields, "forward"), None)
        reason = text(fields, "reason")
        account.ends[reason] += 1
        told = row if fields.get("person") or opened is None else opened
        sent, received, duration = number(fields, "sent"), number(fields, "received"), number(fields, "duration")
        began = opened.event.time if opened else row.event.time - duration
        self._count(row, Traffic(sent=sent, received=received, duration=duration), told)
        self._rank(told, began, duration or row.event.time - began, sent, received, reason or "closed")
        outage = self._down.get(text(told.event.fields, "zone"))
        if reason == "overlay-down" and outage is not None:
            outage.cut += 1

    def _denied(self, row: Row) -> None:
        account, fields = self._account, row.event.fields
        count = number(fields, "count") or 1
        self._count(row, Traffic(denied=count))
        account.seen.meet(fields, row.event.time, denied=count)
        person, asked = text(fields, "person"), text(fields, "asked")
        self._deny(account.reasons, text(fields, "reason") or "denied", row, count, person, asked)
        self._deny(account.sources, network(text(fields, "client")), row, count, person, asked)

    def _deny(
        self, table: dict[str, Denial], key: str, row: Row, count: int, person: str, asked: str
    ) -> None:
        if key not in table and len(table) >= MOST:
            self._account.left_out["sources"] += 1
            return
        denial = table.setdefault(key, Denial())
        denial.count += count
        denial.last, denial.id = row.event.time, row.event.id
        denial.persons[person] += count
        if asked in denial.targets or len(denial.targets) < 100:  # a scan asks for thousands
            denial.targets[asked] += count

    def _count(self, row: Row, traffic: Traffic, told: Row | None = None) -> None:
        account, time, fields = self._account, row.event.time, (told or row).event.fields
        hour = time // 900_000_000  # all time zones of today begin their hours at a quarter of UTC's
        if self._column[0] != hour:
            self._column = hour, account.columns.setdefault(account.window.start(time), Traffic()), 0
        self._column[1].add(traffic)
        account.total.add(traffic)
        person = text(fields, "person")
        if not person:
            return
        account.persons.setdefault(person, Traffic()).add(traffic)
        if fields.get("address"):
            place = place_of(fields)
            account.pairs.setdefault((person, place), Traffic()).add(traffic)
            if place not in self._given:
                asked = host_of(fields.get("asked"))
                if asked and asked != place[1]:
                    account.names[place] = asked

    def _rank(self, row: Row, began: int, duration: int, sent: int, received: int, reason: str) -> None:
        for heap, value in ((self._longest, duration), (self._largest, sent + received)):
            if len(heap) == TOP and value <= heap[0][0]:
                continue
            fields = row.event.fields
            forward = Forward(
                *(text(fields, "forward"), text(fields, "person"), text(fields, "client"), place_of(fields)),
                *(number(fields, "port"), began, duration, sent, received, reason),
            )
            (heapq.heappush if len(heap) < TOP else heapq.heapreplace)(heap, (value, -row.seq, forward))

    def _zone(self, row: Row) -> None:
        account, fields, time = self._account, row.event.fields, row.event.time
        zone = text(fields, "zone")
        outage = self._down.pop(zone, None)
        if row.event.name == "zone.up":
            if outage is None:  # it broke before the window
                outage = Outage(zone, "", "", time - number(fields, "duration"))
                self._keep(account.outages, outage)
            outage.ended = time
            return
        if outage is not None and len(account.outages) < MOST:  # another obstacle while it is down: one outage more
            outage.ended = time
        self._down[zone] = Outage(zone, text(fields, "reason"), text(fields, "detail"), time)
        self._keep(account.outages, self._down[zone])

    def _keep(self, outages: list[Outage], outage: Outage) -> None:
        if len(outages) < MOST:
            outages.append(outage)
        else:
            self._account.left_out["outages"] += 1

    def _meet(self, row: Row) -> None:
        """Note what is new in a log-in or an opening, and then that it has been seen."""
        seen, past, fields = self._account.seen, self._past, row.event.fields
        person, fingerprint, version = (text(fields, key) for key in ("person", "fingerprint", "client_version"))
        where, place, port = network(text(fields, "client")), place_of(fields), number(fields, "port")
        new = {
            "person": person not in past.persons and person not in seen.persons,
            "key": (person, fingerprint) not in past.keys and (person, fingerprint) not in seen.keys,
            "network": (person, fingerprint, where) not in past.networks
            and (person, fingerprint, where) not in seen.networks,
            "version": version not in past.versions and version not in seen.versions,
            "program": (person, program(version)) not in past.programs
            and (person, program(version)) not in seen.programs,
            "pair": row.event.name == "forward.opened"
            and (person, place, port) not in past.pairs
            and (person, place, port) not in seen.pairs,
        }
        seen.meet(fields, row.event.time)
        if not any(new.values()):
            return
        # what follows from something that is told already is not told again
        told = {
            "person": new["person"],
            "key": new["key"] and not new["person"],
            "network": new["network"] and not new["key"],
            "version": new["version"],
            "program": new["program"] and not new["version"] and not new["person"],
            "pair": new["pair"],
        }
        whats = {"key": fingerprint, "network": where, "version": version, "program": program(version)}
        id = text(fields, "forward") or text(fields, "connection") or row.event.id
        for kind in (kind for kind, is_new in told.items() if is_new):
            if len(self._account.firsts) >= MOST:
                self._account.left_out["firsts"] += 1
            elif kind == "pair":
                self._account.firsts.append(First(kind, row.event.time, person, "", id, place, port))
            else:
                what = whats.get(kind, fingerprint)
                self._account.firsts.append(First(kind, row.event.time, person, what, id))


def number(fields: Mapping[str, Value], key: str) -> int:
    """A field that is a number, 0 when it is missing or none."""
    value = fields.get(key)
    return value if isinstance(value, int) else 0

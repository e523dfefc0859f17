"""Activity summary of a window: the sums that the report and the digest show.

All of it is bounded by the number of persons, places and keys. Lists that one person could grow without end are cut at
MOST.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo

from relay.core.audit.event import Value
from relay.core.audit.hash_chain import Row
from relay.review.first_seen import Place, SeenItems

TOP = 20  # forwards in a list of the longest or largest
MOST = 2000  # entries of each list that one person could grow: firsts, notable rows, outages, sources

HOUR, DAY = 3_600_000_000, 86_400_000_000  # microseconds
# Rows that are listed one by one: administrative changes, and protective measures of the relay.
NOTABLE = frozenset(
    {
        *("key.added", "key.revoked", "key.removed", "key.frozen", "key.thawed", "site.applied", "site.rejected"),
        *("server.started", "server.stopped", "host_key.added", "host_key.retired", "backup.made", "backup.restored"),
        *("connection.killed", "ban.begun", "ban.ended", "scan.seen", "limit.reached", "audit.lost", "audit.key"),
        "audit.archived",
        "audit.discarded",
    }
)


@dataclass(frozen=True, slots=True)
class ReportSpan:
    """From `since` to before `until`, in UTC microseconds; `zone` is the site's time zone."""

    since: int
    until: int
    zone: tzinfo

    @property
    def step(self) -> str:
        """The span of one chart column: about thirty columns are easy to read, a hundred are the limit."""
        length = self.until - self.since
        steps = ((3, "hour"), (92, "day"), (730, "week"))
        return next((step for days, step in steps if length <= days * DAY), "month")

    def start(self, time: int) -> datetime:
        """The beginning of the column that `time` belongs to, on the site's clocks."""
        local = datetime.fromtimestamp(time // 1_000_000, self.zone).replace(minute=0, second=0, microsecond=0)
        if self.step == "hour":
            return local
        local = local.replace(hour=0, tzinfo=None)  # days by the calendar: one of them may have 23 hours
        if self.step == "month":
            return local.replace(day=1)
        return local - timedelta(days=local.weekday()) if self.step == "week" else local

    def starts(self) -> list[datetime]:
        """The beginnings of all columns, oldest first."""
        length = {"hour": HOUR, "day": DAY, "week": 7 * DAY, "month": 28 * DAY}[self.step]
        times = [*range(self.since, self.until, length // 2), max(self.until - 1, self.since)]
        return list(dict.fromkeys(self.start(time) for time in times))


@dataclass(slots=True)
class Traffic:
    """Traffic counts: forwards at their opening or denial, bytes and time at their end."""

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
        """Add other counts."""
        self.opened += other.opened
        self.denied += other.denied
        self.sent += other.sent
        self.received += other.received
        self.duration += other.duration


@dataclass(frozen=True, slots=True)
class ForwardSummary:
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
class FirstSeen:
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
    """An outage of a zone; `ended` is None while it lasts."""

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
class ActivitySummary:
    """The sums of one window."""

    window: ReportSpan
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
    longest: list[ForwardSummary] = field(default_factory=list)
    largest: list[ForwardSummary] = field(default_factory=list)
    firsts: list[FirstSeen] = field(default_factory=list)
    outages: list[Outage] = field(default_factory=list)
    notable: list[Row] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)  # what was cut at MOST
    seals: int = 0
    sealed: Row | None = None  # the last checkpoint
    unsealed: int = 0  # rows behind it
    seen: SeenItems = field(default_factory=SeenItems)

    def name(self, place: Place) -> str:
        """A place by the name that people use for it."""
        return self.names.get(place) or place[1]


def number(fields: Mapping[str, Value], key: str) -> int:
    """A field that is a number, 0 when it is missing or none."""
    value = fields.get(key)
    return value if isinstance(value, int) else 0

"""How do rows add up to an account? One walk over them, in the order in which they were written."""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from relay.core.audit.audit_query import host_of
from relay.core.audit.event import Value
from relay.core.audit.hash_chain import Row
from relay.review.activity_summary import (
    MOST,
    NOTABLE,
    TOP,
    ActivitySummary,
    Denial,
    FirstSeen,
    ForwardSummary,
    Outage,
    ReportSpan,
    Traffic,
    number,
)
from relay.review.first_seen import Place, SeenItems, network, place_of, program, text
from relay.review.row_source import Attempts

_MEETING = ("person", "fingerprint", "client", "client_version", "zone", "address", "asked", "port", "rule")


def gather(
    rows: Iterable[Row],
    window: ReportSpan,
    past: SeenItems,
    *,
    attempts: Sequence[Attempts] = (),
    names: Mapping[Place, str] | None = None,
    begins: int | None = None,
) -> ActivitySummary:
    """Add up the rows that lie in `window`; `past` is what was seen before it, `names` what the policy calls places,
    `begins` the time of the log's first row.

    `past` also takes those rows that are older than the window.
    """
    account = ActivitySummary(window, begins, names=dict(names or {}))
    account.columns = {start: Traffic() for start in window.starts()}
    ledger = _ActivityCollector(account, past)
    for row in rows:
        if window.since <= row.event.time < window.until:
            ledger.take(row)
        elif row.event.time < window.since:  # written late, or the clock was set back
            past.meet(row.event.fields, row.event.time, denied=row.event.name == "forward.denied")
        account.head = row.seq, row.hash
    for attempt in attempts:
        account.strangers[attempt.prefix, attempt.kind] += attempt.count
    ledger.finish()
    return account


class _ActivityCollector:
    """Takes rows one by one. The names of places that the policy knows are kept, others are learnt from the rows."""

    def __init__(self, account: ActivitySummary, past: SeenItems) -> None:
        self._account, self._past = account, past
        self._given = frozenset(account.names)
        self._open: dict[str, Row] = {}
        self._longest: list[tuple[int, int, ForwardSummary]] = []
        self._largest: list[tuple[int, int, ForwardSummary]] = []
        self._down: dict[str, Outage] = {}
        self._met: set[tuple[Value, ...]] = set()
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
            self._rank(row, row.event.time, Traffic(duration=until - row.event.time), "")
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
        self._rank(told, began, Traffic(0, 0, sent, received, duration or row.event.time - began), reason or "closed")
        outage = self._down.get(text(told.event.fields, "zone"))
        if reason == "overlay-down" and outage is not None:
            outage.cut += 1

    def _denied(self, row: Row) -> None:
        account, fields = self._account, row.event.fields
        count = number(fields, "count") or 1
        self._count(row, Traffic(denied=count))
        account.seen.meet(fields, row.event.time, denied=1)
        self._deny(account.reasons, text(fields, "reason") or "denied", row, count)
        self._deny(account.sources, network(text(fields, "client")), row, count)

    def _deny(self, table: dict[str, Denial], key: str, row: Row, count: int) -> None:
        person, asked = text(row.event.fields, "person"), text(row.event.fields, "asked")
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

    def _rank(self, row: Row, began: int, traffic: Traffic, reason: str) -> None:
        for heap, value in ((self._longest, traffic.duration), (self._largest, traffic.bytes)):
            if len(heap) == TOP and value <= heap[0][0]:
                continue
            fields = row.event.fields
            forward = ForwardSummary(
                *(text(fields, "forward"), text(fields, "person"), text(fields, "client"), place_of(fields)),
                *(number(fields, "port"), began, traffic.duration, traffic.sent),
                *(traffic.received, reason),
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
        whole = row.event.name, *map(fields.get, _MEETING)
        if whole in self._met:  # nearly every row: five times as fast as looking at each part of it
            return
        self._met.add(whole)
        person, fingerprint, version = (text(fields, key) for key in ("person", "fingerprint", "client_version"))
        where, place, port = network(text(fields, "client")), place_of(fields), number(fields, "port")
        new = {  # what a row does not say cannot be new
            "person": person != "" and person not in past.persons and person not in seen.persons,
            "key": fingerprint != ""
            and (person, fingerprint) not in past.keys
            and (person, fingerprint) not in seen.keys,
            "network": fingerprint != ""
            and (person, fingerprint, where) not in past.networks
            and (person, fingerprint, where) not in seen.networks,
            "version": version != "" and version not in past.versions and version not in seen.versions,
            "program": version != ""
            and (person, program(version)) not in past.programs
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
                self._account.firsts.append(FirstSeen(kind, row.event.time, person, "", id, place, port))
            else:
                what = whats.get(kind, fingerprint)
                self._account.firsts.append(FirstSeen(kind, row.event.time, person, what, id))

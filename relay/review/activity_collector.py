"""Builds an activity summary from rows in one pass, in the order in which they were written."""

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

_IDENTIFYING = ("person", "fingerprint", "client", "client_version", "zone", "address", "asked", "port", "rule")


def collect_activity(
    rows: Iterable[Row],
    window: ReportSpan,
    past: SeenItems,
    *,
    attempts: Sequence[Attempts] = (),
    names: Mapping[Place, str] | None = None,
    begins: int | None = None,
) -> ActivitySummary:
    """The summary of the rows in `window`. `past` holds the items seen before it, `names` the policy's names of places,
    `begins` the time of the log's first row.

    Rows that are older than the window are added to `past`.
    """
    summary = ActivitySummary(window, begins, names=dict(names or {}))
    summary.columns = {start: Traffic() for start in window.starts()}
    collector = _ActivityCollector(summary, past)
    for row in rows:
        if window.since <= row.event.time < window.until:
            collector.add(row)
        elif row.event.time < window.since:  # written late, or the clock was set back
            past.meet(row.event.fields, row.event.time, denied=row.event.name == "forward.denied")
        summary.head = row.seq, row.hash
    for attempt in attempts:
        summary.strangers[attempt.prefix, attempt.kind] += attempt.count
    collector.finish()
    return summary


class _ActivityCollector:
    """Adds rows to a summary. Names of places come from the policy, else from the rows."""

    def __init__(self, summary: ActivitySummary, past: SeenItems) -> None:
        self._summary, self._past = summary, past
        self._given = frozenset(summary.names)
        self._open: dict[str, Row] = {}
        self._longest: list[tuple[int, int, ForwardSummary]] = []
        self._largest: list[tuple[int, int, ForwardSummary]] = []
        self._down: dict[str, Outage] = {}
        self._noted: set[tuple[Value, ...]] = set()
        self._column: tuple[int, Traffic, int] = (-1, Traffic(), 0)

    def add(self, row: Row) -> None:
        summary, name = self._summary, row.event.name
        summary.rows += 1
        summary.unsealed += 1
        match name:
            case "forward.opened":
                self._opened(row)
            case "forward.closed":
                self._closed(row)
            case "forward.denied":
                self._denied(row)
            case "login.succeeded":
                summary.logins += 1
                self._note_first(row)
            case "request.refused":
                kind = text(row.event.fields, "kind"), text(row.event.fields, "type")
                if kind in summary.requests or len(summary.requests) < MOST:
                    summary.requests[kind] += number(row.event.fields, "count") or 1
            case "zone.down" | "zone.up":
                self._zone(row)
            case "audit.sealed":
                summary.seals, summary.sealed, summary.unsealed = summary.seals + 1, row, 0
            case _ if name in NOTABLE:
                summary.notable.append(row)
                if len(summary.notable) > MOST:
                    summary.left_out["notable"] += 1
                    del summary.notable[0]

    def finish(self) -> None:
        summary, until = self._summary, self._summary.window.until
        for row in self._open.values():
            self._rank(row, row.event.time, Traffic(duration=until - row.event.time), "")
        summary.open = len(self._open)
        summary.longest = [forward for _, _, forward in sorted(self._longest, reverse=True)]
        summary.largest = [forward for _, _, forward in sorted(self._largest, reverse=True) if forward.bytes]

    def _opened(self, row: Row) -> None:
        summary, fields = self._summary, row.event.fields
        self._note_first(row)
        self._open[text(fields, "forward")] = row
        self._count(row, Traffic(opened=1))
        local = datetime.fromtimestamp(row.event.time // 1_000_000, summary.window.zone)
        summary.hours[local.weekday()][local.hour] += 1

    def _closed(self, row: Row) -> None:
        summary, fields = self._summary, row.event.fields
        opened = self._open.pop(text(fields, "forward"), None)
        reason = text(fields, "reason")
        summary.ends[reason] += 1
        told = row if fields.get("person") or opened is None else opened
        sent, received, duration = number(fields, "sent"), number(fields, "received"), number(fields, "duration")
        began = opened.event.time if opened else row.event.time - duration
        self._count(row, Traffic(sent=sent, received=received, duration=duration), told)
        self._rank(told, began, Traffic(0, 0, sent, received, duration or row.event.time - began), reason or "closed")
        outage = self._down.get(text(told.event.fields, "zone"))
        if reason == "overlay-down" and outage is not None:
            outage.cut += 1

    def _denied(self, row: Row) -> None:
        summary, fields = self._summary, row.event.fields
        count = number(fields, "count") or 1
        self._count(row, Traffic(denied=count))
        summary.seen.meet(fields, row.event.time, denied=1)
        self._deny(summary.reasons, text(fields, "reason") or "denied", row, count)
        self._deny(summary.sources, network(text(fields, "client")), row, count)

    def _deny(self, table: dict[str, Denial], key: str, row: Row, count: int) -> None:
        person, asked = text(row.event.fields, "person"), text(row.event.fields, "asked")
        if key not in table and len(table) >= MOST:
            self._summary.left_out["sources"] += 1
            return
        denial = table.setdefault(key, Denial())
        denial.count += count
        denial.last, denial.id = row.event.time, row.event.id
        denial.persons[person] += count
        if asked in denial.targets or len(denial.targets) < 100:  # a scan asks for thousands
            denial.targets[asked] += count

    def _count(self, row: Row, traffic: Traffic, told: Row | None = None) -> None:
        summary, time, fields = self._summary, row.event.time, (told or row).event.fields
        hour = time // 900_000_000  # all time zones of today begin their hours at a quarter of UTC's
        if self._column[0] != hour:
            self._column = hour, summary.columns.setdefault(summary.window.start(time), Traffic()), 0
        self._column[1].add(traffic)
        summary.total.add(traffic)
        person = text(fields, "person")
        if not person:
            return
        summary.persons.setdefault(person, Traffic()).add(traffic)
        if fields.get("address"):
            place = place_of(fields)
            summary.pairs.setdefault((person, place), Traffic()).add(traffic)
            if place not in self._given:
                asked = host_of(fields.get("asked"))
                if asked and asked != place[1]:
                    summary.names[place] = asked

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
        summary, fields, time = self._summary, row.event.fields, row.event.time
        zone = text(fields, "zone")
        outage = self._down.pop(zone, None)
        if row.event.name == "zone.up":
            if outage is None:  # the outage began before the window
                outage = Outage(zone, "", "", time - number(fields, "duration"))
                self._keep(summary.outages, outage)
            outage.ended = time
            return
        if outage is not None and len(summary.outages) < MOST:  # another obstacle while it is down: one outage more
            outage.ended = time
        self._down[zone] = Outage(zone, text(fields, "reason"), text(fields, "detail"), time)
        self._keep(summary.outages, self._down[zone])

    def _keep(self, outages: list[Outage], outage: Outage) -> None:
        if len(outages) < MOST:
            outages.append(outage)
        else:
            self._summary.left_out["outages"] += 1

    def _note_first(self, row: Row) -> None:
        """Record the new items of a log-in or an opening, then mark its items as seen."""
        seen, past, fields = self._summary.seen, self._past, row.event.fields
        whole = row.event.name, *map(fields.get, _IDENTIFYING)
        if whole in self._noted:  # nearly every row; five times as fast as comparing each field
            return
        self._noted.add(whole)
        person, fingerprint, version = (text(fields, key) for key in ("person", "fingerprint", "client_version"))
        where, place, port = network(text(fields, "client")), place_of(fields), number(fields, "port")
        new = {  # an absent field cannot be new
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
        # an item that follows from another new item is not listed again
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
            if len(self._summary.firsts) >= MOST:
                self._summary.left_out["firsts"] += 1
            elif kind == "pair":
                self._summary.firsts.append(FirstSeen(kind, row.event.time, person, "", id, place, port))
            else:
                what = whats.get(kind, fingerprint)
                self._summary.firsts.append(FirstSeen(kind, row.event.time, person, what, id))

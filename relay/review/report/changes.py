"""New and unused items, zone outages, administrative changes, and the state of the log itself."""

from collections import Counter

from relay.review.activity_summary import ActivitySummary, FirstSeen
from relay.review.digest import DigestItem, gaps_of
from relay.review.first_seen import text
from relay.review.local_time import local_minute
from relay.review.report.blocks import (
    Block,
    Cell,
    Column,
    Facts,
    News,
    Paragraph,
    ReportData,
    code,
    columns,
    count,
    length,
    moment,
    more_rows,
    numbers,
    search_command,
    sentence,
    soft,
    table,
    words,
)

KINDS = {
    "person": "a person",
    "key": "a key",
    "network": "a network",
    "pair": "a target",
    "version": "a client version",
    "program": "a client program",
}
UNUSED_KINDS = {
    "person": "a person",
    "key": "a key",
    "host": "a host",
    "rule": "a rule",
    "deny rule": "a deny rule",
}


def new(data: ReportData) -> list[Block]:
    """Everything that was seen for the first time."""
    summary = data.summary
    zone = summary.window.zone
    if data.is_log_new:
        return [soft("The log begins in this window: there is nothing to compare with.")]
    begins = local_minute(summary.begins or summary.window.since, zone)
    since = soft("Compared with everything in the log before, which begins {time}.", time=begins)
    if not summary.firsts:
        return [since, soft("Nothing is new.")]
    order = list(KINDS)
    rows = [
        [
            Cell(sentence(KINDS[first.kind]), short=True),
            words(first.person),
            words(_name(summary, first)),
            moment(first.time, zone),
            code(first.id),
        ]
        for first in sorted(summary.firsts, key=lambda first: (order.index(first.kind), -first.time))
    ]
    headings = (*columns("what is new", "person", "which"), Column("first seen", time=True), Column("id"))
    return [
        since,
        table("Seen for the first time", headings, rows),
        *more_rows(len(rows), search_command(summary)),
    ]


def _name(summary: ActivitySummary, first: FirstSeen) -> str:
    if first.kind != "pair":
        return first.what
    name, address = summary.name(first.place), first.place[1]
    return f"{name}:{first.port}" + (f" ({address})" if name != address else "")


def unused(data: ReportData) -> list[Block]:
    """Unused items of the site, each with the command that removes it."""
    if data.unused is None:
        return [soft("The running configuration cannot be read, so it is not known what is unused.")]
    if not data.unused:
        return [soft("Everything that the site holds was used.")]
    zone = data.summary.window.zone
    rows = [
        [
            Cell(sentence(UNUSED_KINDS[item.holding.kind]), short=True),
            words(item.holding.name),
            words(item.holding.owner),
            moment(item.last, zone) if item.last is not None else Cell(sentence("never"), 0),
            code(item.holding.place),
            code(item.remedy(data.site)),
        ]
        for item in data.unused
    ]
    headings = (*columns("kind", "name", "owner"), Column("last used", time=True), *columns("stands in", "remove with"))
    notes = soft(
        "Not used in this window, by policy {policy}. The lines of each file are listed from the bottom up, so line "
        "numbers stay right if you delete them in this order. Then run relayctl check and relayctl reload. A deny rule "
        "that denied nothing may still be needed. To block a key permanently: relayctl revoke-key.",
        policy=data.policy or "?",
    )
    return [notes, table("Unused rules, people, keys and hosts", headings, rows, most=500)]


def outages(data: ReportData) -> list[Block]:
    """Zone outages and their reasons."""
    summary = data.summary
    if not summary.outages:
        return [soft("No zone was down.")]
    rows = [
        [
            words(outage.zone),
            moment(outage.began, summary.window.zone),
            length((outage.ended or summary.window.until) - outage.began),
            words(outage.reason or "-")
            if outage.ended is not None
            else Cell(sentence("{reason} (still down)", reason=outage.reason)),
            words(outage.detail),
            count(outage.cut),
        ]
        for outage in summary.outages
    ]
    headings = (
        *(Column("zone"), Column("since", time=True), *numbers("duration")),
        *(*columns("obstacle", "detail"), *numbers("forwards cut")),
    )
    return [
        table("When a zone could not be reached", headings, rows),
        *more_rows(len(rows), search_command(summary, "--event zone.down")),
    ]


def changes(data: ReportData) -> list[Block]:
    """Administrative changes, and the relay's own protective measures."""
    summary = data.summary
    if not summary.notable:
        return [soft("Nothing was changed.")]
    rows = []
    for row in reversed(summary.notable):
        fields, gaps = row.event.fields, gaps_of(row)
        about = [text(fields, key) for key in ("person", "fingerprint", "source", "file", "policy", "version")]
        more = [text(fields, key) for key in ("reason", "why", "detail")]
        more.append(gaps["count"] if gaps["count"] != "0" else "")
        rows.append(
            [
                moment(row.event.time, summary.window.zone),
                words(row.event.name),
                words(" ".join(filter(None, about))),
                words(" · ".join(filter(None, more))),
                words("" if gaps["by"] == "-" else gaps["by"]),
                code(row.event.id),
            ]
        )
    counts = Counter(row.event.name for row in summary.notable).most_common()
    return [
        Paragraph(", ".join(f"{name} {number}" for name, number in counts)),
        table("Newest first", (Column("time", time=True), *columns("event", "about", "more", "by", "id")), rows),
        *more_rows(len(rows), "relayctl audit search"),
    ]


def log(data: ReportData) -> list[Block]:
    """Rows recorded, checkpoints, and the results of the verification."""
    summary = data.summary
    facts = [
        ("rows in this window", f"{summary.rows:,}"),
        ("last row", f"{summary.head[0]:,}"),
        ("its hash", summary.head[1]),
        ("checkpoints", f"{summary.seals:,}"),
    ]
    if summary.sealed is not None:
        facts.append(("last checkpoint", local_minute(summary.sealed.event.time, summary.window.zone)))
        facts.append(("rows behind it", f"{summary.unsealed:,}"))
    blocks: list[Block] = [Facts(facts)]
    omitted = [
        DigestItem("omitted", "{count} {what} are left out here", {"count": str(number), "what": what})
        for what, number in summary.left_out.items()
    ]
    if data.verification or omitted:
        blocks.append(News([*data.verification, *omitted]))
    if not data.verification:
        blocks.append(soft("The log was not verified for this page."))
    notes = soft(
        "The content of forwards is not recorded, and cannot be. This page is not evidence: relayctl audit verify "
        "proves the log, and an anchor kept elsewhere proves that nothing is missing at its end."
    )
    return [*blocks, notes]

"""What changed? What is new, unused, was down; what administrators did, and how the log itself stands."""

from html import escape as quoted

from relay.review.activity_summary import ActivitySummary, FirstSeen
from relay.review.digest import gaps_of
from relay.review.first_seen import text
from relay.review.report.html import Cell, Column, clock, code, count, length, moment, shown, table, words
from relay.review.report.paragraphs import ROWS, ReportData, cut, listed, numbers, said, search, soft
from relay.review.report.translations import Translator

KINDS = {
    "person": "a person",
    "key": "a key",
    "network": "a network",
    "pair": "a target",
    "version": "a client version",
    "program": "a client program",
}


def new(findings: ReportData, say: Translator) -> str:
    """What was seen for the first time."""
    account = findings.account
    zone = account.window.zone
    if findings.young:
        return soft(say, "The log begins in this window: there is nothing to compare with.")
    since = soft(
        say,
        "Compared with everything in the log before, which begins {time}.",
        time=clock(account.begins or account.window.since, zone),
    )
    if not account.firsts:
        return since + soft(say, "Nothing is new.")
    order = list(KINDS)
    firsts = sorted(account.firsts, key=lambda first: (order.index(first.kind), -first.time))
    rows = [
        [
            words(say(KINDS[first.kind])),
            words(first.person),
            words(_what(account, first)),
            moment(first.time, zone),
            code(first.id),
        ]
        for first in firsts
    ]
    columns = (
        *(Column(say(heading)) for heading in ("what is new", "person", "which")),
        Column(say("first seen"), time=True),
        Column(say("id")),
    )
    return (
        since + table(say("Seen for the first time"), columns, rows, most=ROWS) + cut(say, len(rows), search(account))
    )


def _what(account: ActivitySummary, first: FirstSeen) -> str:
    if first.kind == "pair":
        name = account.name(first.place)
        return f"{name}:{first.port}" + (f" ({first.place[1]})" if name != first.place[1] else "")
    return first.what


def unused(findings: ReportData, say: Translator) -> str:
    """What nobody used, with what removes it."""
    if findings.unused is None:
        return soft(say, "What is applied cannot be read, so it is not known what is unused.")
    if not findings.unused:
        return soft(say, "Everything that the site holds was used.")
    zone = findings.account.window.zone
    kinds = {"person": "a person", "key": "a key", "host": "a host", "rule": "a rule", "deny rule": "a deny rule"}
    rows = [
        [
            words(say(kinds[one.holding.kind])),
            words(one.holding.name),
            words(one.holding.owner),
            moment(one.last, zone) if one.last is not None else Cell(quoted(say("never")), 0),
            code(one.holding.place),
            code(one.remedy(findings.site)),
        ]
        for one in findings.unused
    ]
    columns = (
        *(Column(say(heading)) for heading in ("kind", "name", "owner")),
        Column(say("last used"), time=True),
        *(Column(say(heading)) for heading in ("stands in", "what removes it")),
    )
    notes = soft(
        say,
        "Without a trace in this window, as policy {policy} has it. Lines go from the bottom of each file up, and "
        "stay right while one after the other is deleted. Then relayctl check, and relayctl reload. A deny rule that "
        "denied nothing may be doing its work. To shut a key out for ever: relayctl revoke-key.",
        policy=findings.policy or "?",
    )
    return notes + table(say("Rules, people, keys and hosts that nobody used"), columns, rows, most=500)


def outages(findings: ReportData, say: Translator) -> str:
    """When which zone could not be reached, and why."""
    account = findings.account
    zone = account.window.zone
    if not account.outages:
        return soft(say, "No zone was down.")
    rows = [
        [
            words(outage.zone),
            moment(outage.began, zone),
            length((outage.ended or account.window.until) - outage.began),
            words(outage.reason or "-")
            if outage.ended is not None
            else words(f"{outage.reason} ({say('still down')})"),
            words(outage.detail),
            count(outage.cut),
        ]
        for outage in account.outages
    ]
    columns = (
        Column(say("zone")),
        Column(say("since"), time=True),
        *numbers(say, "duration"),
        *(Column(say(heading)) for heading in ("obstacle", "detail")),
        *numbers(say, "forwards cut"),
    )
    return table(say("When a zone could not be reached"), columns, rows) + cut(
        say, len(rows), search(account, "--event zone.down")
    )


def changes(findings: ReportData, say: Translator) -> str:
    """What administrators did, and how the relay protected itself."""
    account = findings.account
    zone = account.window.zone
    if not account.notable:
        return soft(say, "Nothing was changed.")
    rows = []
    for row in reversed(account.notable):
        fields, gaps = row.event.fields, gaps_of(row)
        about = [text(fields, key) for key in ("person", "fingerprint", "source", "file", "policy", "version")]
        more = [text(fields, key) for key in ("reason", "why", "detail")] + [
            gaps["count"] if gaps["count"] != "0" else ""
        ]
        rows.append(
            [
                moment(row.event.time, zone),
                words(row.event.name),
                words(" ".join(filter(None, about))),
                words(" · ".join(filter(None, more))),
                words("" if gaps["by"] == "-" else gaps["by"]),
                code(row.event.id),
            ]
        )
    columns = (Column(say("time"), time=True), *(Column(say(one)) for one in ("event", "about", "more", "by", "id")))
    counted: dict[str, int] = {}
    for row in account.notable:
        counted[row.event.name] = counted.get(row.event.name, 0) + 1
    line = ", ".join(f"{name} {number}" for name, number in sorted(counted.items(), key=lambda one: -one[1]))
    return (
        f'<p class="soft">{shown(line, 600)}</p>'
        + table(say("Newest first"), columns, rows)
        + cut(say, len(rows), "relayctl audit search")
    )


def log(findings: ReportData, say: Translator) -> str:
    """How much was recorded, how it is sealed, what verifying said."""
    account = findings.account
    zone = account.window.zone
    facts = [
        (say("rows in this window"), f"{account.rows:,}"),
        (say("last row"), f"{account.head[0]:,}"),
        (say("its hash"), account.head[1]),
        (say("checkpoints"), f"{account.seals:,}"),
    ]
    if account.sealed is not None:
        facts.append((say("last checkpoint"), clock(account.sealed.event.time, zone)))
        facts.append((say("rows behind it"), f"{account.unsealed:,}"))
    rows = "".join(
        f'<tr><th scope="row">{quoted(name)}</th><td><code>{shown(value, 100)}</code></td></tr>'
        for name, value in facts
    )
    proof = "".join(listed(item, say) for item in findings.proof)
    unproven = "" if findings.proof else soft(say, "The log was not verified for this page.")
    left = "".join(
        f"<li>{said(say, '{count} {what} are left out here', count=number, what=what)}</li>"
        for what, number in account.left_out.items()
    )
    notes = soft(
        say,
        "What was said inside the forwards is not recorded, and cannot be. This page is not evidence: relayctl audit "
        "verify proves the log, and an anchor kept elsewhere proves that nothing is missing at its end.",
    )
    told = f'<ul class="news">{proof}{left}</ul>' if proof or left else ""
    return f"<table><tbody>{rows}</tbody></table>{told}{unproven}{notes}"

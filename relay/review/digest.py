"""The digest: new items, failures, and what expires soon, one line each with the command that shows more.

An item is a sentence with gaps and the values for them, so that the report can translate it. Values from the log are
stored as they are; `DigestItem.text` and the report escape them.
"""

import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from relay.core.audit.hash_chain import Row
from relay.core.escape import escape
from relay.core.human_units import span
from relay.core.policy.site_item import SiteItem
from relay.review.activity_summary import DAY, ActivitySummary, FirstSeen, number
from relay.review.first_seen import SeenItems, text

SOON = 14 * DAY  # before a key or rule ends: time for two weekly reviews
SPIKE_LEAST = 20  # denied forwards below which nothing is reported
SPIKE = 3  # times as many as usual
NAMED = 4  # names listed; the rest are counted


HEADING = "{node}: news from {since} to {until} ({zone})"


@dataclass(frozen=True, slots=True)
class DigestItem:
    """One piece of news; a `grave` one needs attention today."""

    kind: str
    sentence: str
    gaps: dict[str, str] = field(default_factory=dict)
    command: str = ""  # shows more
    grave: bool = False

    def text(self, words: Callable[[str], str] = str) -> str:
        """The sentence with its gaps filled in, safe to print; `words` translates the sentence."""
        return words(self.sentence).format_map({key: escape(value, 120) for key, value in self.gaps.items()})


def digest_items(
    summary: ActivitySummary, past: SeenItems, holdings: Iterable[SiteItem] = (), faults: Sequence[DigestItem] = ()
) -> tuple[DigestItem, ...]:
    """The news of a window, the grave ones first. `past` empty: the log is as young as the window, nothing is new."""
    found = [*faults, *_outages(summary), *_denials(summary, past), *_notable(summary), *_ending(summary, holdings)]
    if past.persons:
        found += _firsts(summary)
    return tuple(sorted(found, key=lambda item: not item.grave))


def _search(summary: ActivitySummary, *words: str) -> str:
    since = max((summary.window.until - summary.window.since + DAY - 1) // DAY, 1)
    return " ".join(["relayctl audit search", *(shlex.quote(escape(word, 200)) for word in words), f"--since {since}d"])


def _firsts(summary: ActivitySummary) -> Iterator[DigestItem]:
    pairs: dict[str, list[FirstSeen]] = {}
    for first in summary.firsts:
        gaps = {"person": first.person, "what": first.what}
        of = ("--person", first.person)
        match first.kind:
            case "person":
                yield DigestItem("person", "{person} was here for the first time", gaps, _search(summary, *of))
            case "key":
                yield DigestItem("key", "{person} used a new key, {what}", gaps, _search(summary, "--key", first.what))
            case "network":
                command = _search(summary, *of, "--from", first.what)
                yield DigestItem("network", "{person} came from a new network, {what}", gaps, command)
            case "version":
                command = f"relayctl audit show {escape(first.id, 40)}"
                yield DigestItem("version", "a client version not seen before, {what}, by {person}", gaps, command)
            case "program":
                command = f"relayctl audit show {escape(first.id, 40)}"
                yield DigestItem("program", "{person} used another program, {what}", gaps, command)
            case _:
                pairs.setdefault(first.person, []).append(first)
    for person, found in pairs.items():
        targets = _some([f"{summary.name(first.place)}:{first.port}" for first in found])
        gaps = {"person": person, "what": targets, "count": str(len(found))}
        yield DigestItem(
            "pair", "{person} reached for the first time: {what}", gaps, _search(summary, "--person", person)
        )


def _some(names: Sequence[str]) -> str:
    """The first few of many."""
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f", +{more}" if more > 0 else "")


def _denials(summary: ActivitySummary, past: SeenItems) -> Iterator[DigestItem]:
    window = summary.window.until - summary.window.since
    known = max(summary.window.since - (summary.begins or summary.window.since), 0)
    for person, count in sorted(summary.seen.denied_of.items(), key=lambda found: -found[1]):
        usual = past.denied_of.get(person, 0) * window / known if known >= DAY else 0.0
        if count < SPIKE_LEAST or count < SPIKE * usual:
            continue
        gaps = {"person": person, "count": str(count), "usual": f"{usual:.0f}"}
        command = _search(summary, "--person", person, "--verdict", "denied")
        yield DigestItem("denied", "{person} was denied {count} forwards; usual: {usual}", gaps, command, grave=True)


def _outages(summary: ActivitySummary) -> Iterator[DigestItem]:
    for zone in dict.fromkeys(outage.zone for outage in summary.outages):
        found = [outage for outage in summary.outages if outage.zone == zone]
        last = found[-1]
        down = sum((outage.ended or summary.window.until) - outage.began for outage in found)
        gaps = {"zone": zone, "count": str(len(found)), "span": span(down), "reason": last.reason or "-"}
        command = _search(summary, "--event", "zone.down")
        if last.ended is None:
            yield DigestItem("outage", "the zone {zone} is down: {reason}", gaps, "relayctl net status", grave=True)
        yield DigestItem(
            "outage", "the zone {zone} was down for {span} (outages: {count}), last: {reason}", gaps, command
        )


_SENTENCES = {
    "scan.seen": ("{person} tried {count} different targets within a minute", True),
    "key.frozen": ("a key of {person} was frozen: {reason}", True),
    "key.revoked": ("a key of {person} was revoked by {by}: {why}", False),
    "key.added": ("a key of {person} was let in by {by}", False),
    "key.removed": ("a key of {person} was removed by {by}", False),
    "site.rejected": ("files of the site were refused: {detail}", False),
    "audit.lost": ("rows of the audit log that could not be written: {count} ({reason})", True),
    "audit.key": ("the audit log has a new signing key: {reason}", True),
    "backup.restored": ("a backup was restored by {by}", True),
}


_LIMITS = {  # one sentence for each limit, so that its name is translated with it
    "connections": "the limit of connections was reached by {person} (minutes: {count})",
    "forwards_per_connection": "the limit of forwards_per_connection was reached by {person} (minutes: {count})",
    "forwards_per_person": "the limit of forwards_per_person was reached by {person} (minutes: {count})",
    "forwards_per_key": "the limit of forwards_per_key was reached by {person} (minutes: {count})",
    "forwards_per_target": "the limit of forwards_per_target was reached by {person} (minutes: {count})",
}
_OTHER_LIMIT = "the limit of {what} was reached by {person} (minutes: {count})"


def _notable(summary: ActivitySummary) -> Iterator[DigestItem]:
    for row in summary.notable:
        first_of_all = row.event.name == "audit.key" and row.event.fields.get("reason") == "init"
        if row.event.name in _SENTENCES and not first_of_all:
            sentence, grave = _SENTENCES[row.event.name]
            yield DigestItem(row.event.name, sentence, gaps_of(row), f"relayctl audit show {row.event.id}", grave)
    bans = [row for row in summary.notable if row.event.name == "ban.begun"]
    if bans:
        sources = _some(list(dict.fromkeys(text(row.event.fields, "source") for row in bans)))
        gaps = {"count": str(len(bans)), "what": sources}
        yield DigestItem(
            "ban.begun",
            "penalised sources: {what} (penalties: {count})",
            gaps,
            _search(summary, "--event", "ban.begun"),
        )
    limits: dict[tuple[str, str], int] = {}
    for row in summary.notable:
        if row.event.name == "limit.reached":
            whose = text(row.event.fields, "kind"), text(row.event.fields, "person")
            limits[whose] = limits.get(whose, 0) + 1
    for (kind, person), count in limits.items():
        gaps = {"what": kind, "person": person or "-", "count": str(count)}
        command = _search(summary, "--event", "limit.reached")
        yield DigestItem("limit.reached", _LIMITS.get(kind, _OTHER_LIMIT), gaps, command)


def gaps_of(row: Row) -> dict[str, str]:
    """Values for the gaps of a sentence about a notable row."""
    fields = row.event.fields
    by = text(fields, "by_sudo") or (f"uid {fields['by_uid']}" if fields.get("by_uid") is not None else "-")
    gaps = {key: text(fields, key) or "-" for key in ("person", "fingerprint", "reason", "why", "detail", "source")}
    return gaps | {"by": by, "count": str(number(fields, "count"))}


def _ending(summary: ActivitySummary, holdings: Iterable[SiteItem]) -> Iterator[DigestItem]:
    now = summary.window.until
    for held in sorted((one for one in holdings if one.until is not None), key=lambda one: one.until or 0):
        left = (held.until or 0) * 1_000_000 - now
        if not summary.window.since - now <= left <= SOON:
            continue
        gaps = {"what": held.owner if held.kind == "key" else held.name, "at": held.place}
        gaps["days"] = str(-(-abs(left) // DAY))
        sentences = {
            ("key", False): "a key of {what} ends in {days} days ({at})",
            ("key", True): "a key of {what} has ended ({at})",
            ("rule", False): "the rule {what} ends in {days} days ({at})",
            ("rule", True): "the rule {what} has ended ({at})",
        }
        kind = "key" if held.kind == "key" else "rule"
        yield DigestItem("ending", sentences[kind, left < 0], gaps, "relayctl check")

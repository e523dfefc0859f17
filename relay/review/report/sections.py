"""Which sections has the page, in which order? The order in which a reviewer asks."""

from collections.abc import Callable
from dataclasses import dataclass

from relay.review.report import changes, denials, flow
from relay.review.report.findings import Findings
from relay.review.report.words import Words


@dataclass(frozen=True, slots=True)
class Section:
    """One heading and what stands below it."""

    id: str
    title: str
    html: str


def sections(findings: Findings, say: Words) -> tuple[Section, ...]:
    """All of them, in the order in which a reviewer asks."""
    made: tuple[tuple[str, str, Callable[[Findings, Words], str]], ...] = (
        ("news", "To look at", flow.news),
        ("flow", "Forwards and bytes over time", flow.flow),
        ("matrix", "Who reached which host", flow.matrix),
        ("hours", "At which hours", flow.hours),
        ("people", "People", flow.people),
        ("denials", "What was denied", denials.denials),
        ("tops", "Longest and largest", flow.tops),
        ("new", "What is new", changes.new),
        ("unused", "What is unused", changes.unused),
        ("outages", "Zone outages", changes.outages),
        ("changes", "Changes, penalties, scans", changes.changes),
        ("log", "The log itself", changes.log),
    )
    return tuple(Section(id, say(title), tell(findings, say)) for id, title, tell in made)

"""Which sections has the page, in which order? The order in which a reviewer asks."""

from collections.abc import Callable
from dataclasses import dataclass

from relay.review.report import changes, denials, traffic
from relay.review.report.paragraphs import ReportData
from relay.review.report.translations import Translator


@dataclass(frozen=True, slots=True)
class Section:
    """One heading and what stands below it."""

    id: str
    title: str
    html: str


def sections(findings: ReportData, say: Translator) -> tuple[Section, ...]:
    """All of them, in the order in which a reviewer asks."""
    made: tuple[tuple[str, str, Callable[[ReportData, Translator], str]], ...] = (
        ("news", "To look at", traffic.news),
        ("flow", "Forwards and bytes over time", traffic.flow),
        ("matrix", "Who reached which host", traffic.matrix),
        ("hours", "At which hours", traffic.hours),
        ("people", "People", traffic.people),
        ("denials", "What was denied", denials.denials),
        ("tops", "Longest and largest", traffic.tops),
        ("new", "What is new", changes.new),
        ("unused", "What is unused", changes.unused),
        ("outages", "Zone outages", changes.outages),
        ("changes", "Changes, penalties, scans", changes.changes),
        ("log", "The log itself", changes.log),
    )
    return tuple(Section(id, say(title), tell(findings, say)) for id, title, tell in made)

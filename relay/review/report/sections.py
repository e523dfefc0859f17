"""The sections of the report, in the order in which a reviewer reads them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from relay.review.report import changes, denials, traffic
from relay.review.report.blocks import Block, ReportData


@dataclass(frozen=True, slots=True)
class Section:
    """One heading and the blocks below it."""

    id: str
    title: str
    blocks: Sequence[Block]


def sections(data: ReportData) -> list[Section]:
    """All sections, in order."""
    order: tuple[tuple[str, str, Callable[[ReportData], Sequence[Block]]], ...] = (
        ("news", "To look at", traffic.news),
        ("flow", "Forwards and bytes over time", traffic.over_time),
        ("matrix", "Who reached which host", traffic.matrix),
        ("hours", "At which hours", traffic.hours),
        ("people", "People", traffic.people),
        ("denials", "What was denied", denials.denials),
        ("tops", "Longest and largest", traffic.longest_and_largest),
        ("new", "What is new", changes.new),
        ("unused", "What is unused", changes.unused),
        ("outages", "Zone outages", changes.outages),
        ("changes", "Changes, penalties, scans", changes.changes),
        ("log", "The log itself", changes.log),
    )
    return [Section(id, title, blocks(data)) for id, title, blocks in order]

"""Totals of the matching rows, grouped by person, target, key, client or day."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from relay.core.audit.audit_query import AuditQuery
from relay.core.audit.row_json import stamp
from relay.core.audit.usage_totals import COLUMNS, TotalsPart, UsageTotal, group
from relay.review.row_source import RowSource

ORDERS = ("forwards", "bytes", "time", "denied")


@dataclass(frozen=True, slots=True)
class Group:
    """One group and its totals."""

    names: tuple[str, ...]  # as `core.audit.usage_totals.COLUMNS` heads them
    total: UsageTotal

    def as_json(self, by: str) -> dict[str, Any]:
        """The group as JSON."""
        total = self.total
        return {
            **dict(zip(COLUMNS[by], self.names, strict=True)),
            "events": total.events,
            "forwards": total.forwards,
            "denied": total.denied,
            "sent": total.sent,
            "received": total.received,
            "duration": total.duration,
            "first": stamp(total.first),
            "last": stamp(total.last),
        }


@dataclass(frozen=True, slots=True)
class Groups:
    """The groups in order, their number, and the total over all of them, also those not shown."""

    shown: tuple[Group, ...]
    count: int
    total: UsageTotal


def group_rows(
    rows: RowSource,
    question: AuditQuery,
    by: str,
    *,
    day: Callable[[int], str],
    order: str = "",
    top: int | None = None,
    progress: Callable[[float], object] = lambda share: None,
) -> Groups:
    """Totals of the rows that match `question`. `day` gives the date of a time, `order` is one of ORDERS or "".

    The default order is the calendar's for days, and most forwards first for everything else.
    """
    found = _sums(rows.portions(question, by, progress), by, day)
    made = [Group(names, total) for names, total in found.items()]
    made.sort(key=lambda one: one.names)
    if order or by != "day":
        made.sort(key=lambda one: _weight(one.total, order or "forwards"), reverse=True)
    if top is not None and by == "day" and not order:
        made = made[-top:]  # the last days
    return Groups(tuple(made[:top]), len(found), sum(found.values(), UsageTotal()))


def _sums(portions: Iterable[TotalsPart], by: str, day: Callable[[int], str]) -> dict[tuple[str, ...], UsageTotal]:
    found: dict[tuple[str, ...], UsageTotal] = {}
    for one in portions:
        names = group(by, one, day)
        if names is not None:
            found[names] = found[names] + one.total if names in found else one.total
    return found


def _weight(total: UsageTotal, order: str) -> tuple[int, int]:
    """More comes first; among equals the one with more events."""
    value = {
        "forwards": total.forwards,
        "bytes": total.sent + total.received,
        "time": total.duration,
        "denied": total.denied,
    }[order]
    return value, total.events

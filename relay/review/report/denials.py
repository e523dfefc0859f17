"""Denials by reason and by source, refused requests, and unauthenticated clients."""

from collections.abc import Iterable

from relay.review.activity_summary import ActivitySummary, Denial
from relay.review.report.blocks import (
    Block,
    Cell,
    Chart,
    Column,
    ReportData,
    Series,
    code,
    columns,
    count,
    moment,
    more_rows,
    numbers,
    search_command,
    sentence,
    soft,
    table,
    words,
)

BARS = 12  # of the chart


def denials(data: ReportData) -> list[Block]:
    """Denials by reason and source, refused requests, unauthenticated clients."""
    summary = data.summary
    reasons = sorted(summary.reasons.items(), key=lambda item: -item[1].count)
    sources = sorted(summary.sources.items(), key=lambda item: -item[1].count)
    blocks: list[Block] = []
    if reasons:
        top = reasons[:BARS]
        blocks += [
            Chart(
                "Denied forwards by reason",
                sentence("{count} in all", count=summary.total.denied),
                [reason for reason, _ in top],
                (Series("denied", "bad", [denial.count for _, denial in top]),),
                lambda value: f"{value:,}",
                horizontal=True,
            ),
            table("By reason", _columns("reason"), _rows(reasons, summary)),
            table("By the client's network", _columns("from"), _rows(sources, summary)),
            *more_rows(len(sources), search_command(summary, "--verdict denied")),
        ]
    else:
        blocks.append(soft("No forward was denied."))
    if summary.requests:
        rows = [[words(kind), words(type), count(number)] for (kind, type), number in summary.requests.most_common()]
        caption = "Refused requests: shells, listeners and everything else that is no jump"
        blocks.append(table(caption, (*columns("kind", "type"), *numbers("times")), rows))
    if summary.strangers:
        rows = [
            [code(prefix), words(kind), count(number)] for (prefix, kind), number in summary.strangers.most_common()
        ]
        caption = "Clients that did not prove a key (kept for a shorter time)"
        blocks.append(table(caption, (*columns("from", "what"), *numbers("times")), rows, most=50))
    return blocks


def _columns(first: str) -> tuple[Column, ...]:
    return (
        *(Column(first), *numbers("times"), *columns("people", "asked for, most often")),
        *(Column("last", time=True), Column("last id")),
    )


def _rows(denials: Iterable[tuple[str, Denial]], summary: ActivitySummary) -> list[list[Cell]]:
    return [
        [
            words(name),
            count(denial.count),
            words(", ".join(person for person, _ in denial.persons.most_common(5))),
            words(", ".join(target for target, _ in denial.targets.most_common(3))),
            moment(denial.last, summary.window.zone),
            code(denial.id),
        ]
        for name, denial in denials
    ]

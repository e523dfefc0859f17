"""What was refused? By reason and by source, requests that are no jump, and strangers who never proved a key."""

from collections.abc import Iterable

from relay.review.activity_summary import ActivitySummary, Denial
from relay.review.report.charts import Chart, Series
from relay.review.report.html import Cell, Column, code, count, moment, table, words
from relay.review.report.paragraphs import ReportData, cut, figure, numbers, search, soft
from relay.review.report.translations import Translator

BARS = 12  # of the chart


def denials(findings: ReportData, say: Translator) -> str:
    """Denials by reason and source, refused requests, strangers."""
    account = findings.account
    reasons = sorted(account.reasons.items(), key=lambda one: -one[1].count)
    sources = sorted(account.sources.items(), key=lambda one: -one[1].count)
    strangers = account.strangers.most_common()
    out = []
    if reasons:
        top = reasons[:BARS]
        chart = Chart(
            say("Denied forwards by reason"),
            say("{count} in all").format(count=account.total.denied),
            [reason for reason, _ in top],
            (Series(say("denied"), "bad", [denial.count for _, denial in top]),),
            lambda value: f"{value:,}",
            lying=True,
        )
        out.append(f"<figure>{figure(chart)}</figure>")
        out.append(table(say("By reason"), _denial_columns(say, "reason"), _denial_rows(reasons, account)))
        out.append(table(say("By the client's network"), _denial_columns(say, "from"), _denial_rows(sources, account)))
        out.append(cut(say, len(sources), search(account, "--verdict denied")))
    else:
        out.append(soft(say, "No forward was denied."))
    if account.requests:
        rows = [[words(kind), words(type), count(number)] for (kind, type), number in account.requests.most_common()]
        columns = (Column(say("kind")), Column(say("type")), *numbers(say, "times"))
        out.append(table(say("Refused requests: shells, listeners and whatever is no jump"), columns, rows))
    if strangers:
        rows = [[code(prefix), words(kind), count(number)] for (prefix, kind), number in strangers]
        columns = (Column(say("from")), Column(say("what")), *numbers(say, "times"))
        out.append(table(say("Strangers, who never proved a key (kept for a shorter time)"), columns, rows, most=50))
    return "".join(out)


def _denial_columns(say: Translator, first: str) -> tuple[Column, ...]:
    return (
        Column(say(first)),
        *numbers(say, "times"),
        Column(say("people")),
        Column(say("asked for, most often")),
        Column(say("last"), time=True),
        Column(say("last id")),
    )


def _denial_rows(found: Iterable[tuple[str, Denial]], account: ActivitySummary) -> list[list[Cell]]:
    return [
        [
            words(name),
            count(denial.count),
            words(", ".join(person for person, _ in denial.persons.most_common(5))),
            words(", ".join(target for target, _ in denial.targets.most_common(3))),
            moment(denial.last, account.window.zone),
            code(denial.id),
        ]
        for name, denial in found
    ]

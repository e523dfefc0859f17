"""Totals, traffic over time, people and hosts, hours of the week, the longest and largest forwards."""

from collections.abc import Iterable

from relay.core.human_units import size, span
from relay.review.activity_summary import ForwardSummary, Traffic
from relay.review.report.blocks import (
    Block,
    Cell,
    Chart,
    Column,
    Folded,
    Grid,
    News,
    ReportData,
    Series,
    Totals,
    amount,
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

PERSONS, PLACES = 40, 30  # of the matrix; more could not be read
NEWS = 10  # items shown at once; the grave ones come first
NEWS_FOLDED = 100  # items in all
BARS = 12  # horizontal bars of a chart
STEPS = {  # of the charts over time: titles, and how a column is labelled
    "hour": ("Forwards per hour", "Bytes per hour", "%d. %Hh"),
    "day": ("Forwards per day", "Bytes per day", "%m-%d"),
    "week": ("Forwards per week", "Bytes per week", "%m-%d"),
    "month": ("Forwards per month", "Bytes per month", "%Y-%m"),
}


def news(data: ReportData) -> list[Block]:
    """Totals, and the digest, the grave items first."""
    summary = data.summary
    totals = Totals(
        (
            ("forwards", f"{summary.total.opened:,}"),
            ("denied", f"{summary.total.denied:,}"),
            ("bytes", size(summary.total.bytes) or ""),
            ("people", f"{len(summary.persons):,}"),
            ("hosts", f"{len({place for _, place in summary.pairs}):,}"),
            ("log-ins", f"{summary.logins:,}"),
            ("time open", span(summary.total.duration)),
            ("still open", f"{summary.open:,}"),
        )
    )
    if not data.news:
        return [totals, soft("Nothing that has not been so before.")]
    blocks: list[Block] = [totals, News(data.news[:NEWS])]
    if len(data.news) > NEWS:
        title = sentence("{count} more", count=len(data.news) - NEWS)
        blocks.append(Folded(title, [News(data.news[NEWS:NEWS_FOLDED])]))
    return [*blocks, *more_rows(len(data.news), "relayctl audit digest", NEWS_FOLDED)]


def over_time(data: ReportData) -> list[Block]:
    """Forwards and bytes over time."""
    summary = data.summary
    step = summary.window.step
    forwards, volume, form = STEPS[step]
    starts, traffic = list(summary.columns), list(summary.columns.values())
    labels = [f"{start:{form}}" for start in starts]
    busiest = max(zip(traffic, labels, strict=True), key=lambda column: column[0].opened, default=(Traffic(), ""))
    rows = [
        [
            Cell(f"{start:%Y-%m-%d %H:%M}" if step == "hour" else f"{start:%Y-%m-%d}", number),
            *(count(column.opened), count(column.denied), amount(column.sent), amount(column.received)),
        ]
        for number, (start, column) in enumerate(zip(starts, traffic, strict=True))
    ]
    headings = (Column("begins", time=True), *numbers("opened", "denied", "to targets", "from targets"))
    return [
        Chart(
            forwards,
            sentence("{count} in all, most at {label}", count=f"{summary.total.opened:,}", label=busiest[1]),
            labels,
            (
                Series("opened", "a", [column.opened for column in traffic]),
                Series("denied", "bad", [column.denied for column in traffic]),
            ),
            lambda value: f"{value:,}",
        ),
        Chart(
            volume,
            sentence(
                "{sent} to targets, {received} from them; counted when a forward ends",
                sent=size(summary.total.sent),
                received=size(summary.total.received),
            ),
            labels,
            (
                Series("from targets", "a", [column.received for column in traffic]),
                Series("to targets", "b", [column.sent for column in traffic]),
            ),
            lambda value: size(value) or "",
        ),
        Folded(sentence("The same in numbers"), [table("The same in numbers", headings, rows, most=400)]),
    ]


def matrix(data: ReportData) -> list[Block]:
    """Forwards of each person to each host."""
    summary = data.summary
    by_place: dict[tuple[str, str], int] = {}
    for (_, place), traffic in summary.pairs.items():
        by_place[place] = by_place.get(place, 0) + traffic.opened
    persons = sorted(summary.persons, key=lambda person: -summary.persons[person].opened)
    places = sorted(by_place, key=lambda place: -by_place[place])
    if not places:
        return [soft("No forward was opened.")]
    top = places[:PLACES]
    rows = [
        (person, [summary.pairs.get((person, place), Traffic()).opened for place in top])
        for person in persons[:PERSONS]
    ]
    caption = sentence("Forwards of each person to each host")
    blocks: list[Block] = [Grid(caption, [summary.name(place) for place in top], rows, "pairs", turned=True)]
    if len(persons) > PERSONS or len(places) > PLACES:
        blocks.append(
            soft(
                "the {persons} busiest of {all_persons} people, the {places} busiest of {all_places} hosts",
                persons=min(PERSONS, len(persons)),
                all_persons=len(persons),
                places=min(PLACES, len(places)),
                all_places=len(places),
            )
        )
    pairs = [
        [words(person), words(summary.name(place)), words(place[0]), code(place[1]), *_traffic(traffic)]
        for (person, place), traffic in sorted(summary.pairs.items(), key=lambda item: -item[1].bytes)
    ]
    headings = (
        *columns("person", "host", "zone", "address"),
        *numbers("forwards", "denied", "sent", "received", "time open"),
    )
    full = table("Each pair in numbers, most bytes first", headings, pairs)
    more = more_rows(len(pairs), search_command(summary))
    return [*blocks, Folded(sentence("Each pair in numbers"), [full, *more])]


def _traffic(traffic: Traffic) -> list[Cell]:
    return [
        *(count(traffic.opened), count(traffic.denied), amount(traffic.sent), amount(traffic.received)),
        length(traffic.duration),
    ]


def hours(data: ReportData) -> list[Block]:
    """Forwards of each hour of the week."""
    summary = data.summary
    days = [sentence(day) for day in ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")]
    caption = sentence("Forwards opened in each hour of the week, {zone}", zone=summary.window.zone)
    return [Grid(caption, [f"{hour:02d}" for hour in range(24)], list(zip(days, summary.hours, strict=True)), "week")]


def people(data: ReportData) -> list[Block]:
    """Traffic of each person."""
    summary = data.summary
    persons = sorted(summary.persons.items(), key=lambda item: -item[1].bytes)
    if not persons:
        return [soft("No one used the relay.")]
    top = persons[:BARS]
    chart = Chart(
        "Bytes of each person",
        sentence("the {count} with the most", count=len(top)),
        [person for person, _ in top],
        (
            Series("from targets", "a", [traffic.received for _, traffic in top]),
            Series("to targets", "b", [traffic.sent for _, traffic in top]),
        ),
        lambda value: size(value) or "",
        horizontal=True,
    )
    hosts: dict[str, int] = {}
    for person, _ in summary.pairs:
        hosts[person] = hosts.get(person, 0) + 1
    rows = [[words(person), *_traffic(traffic), count(hosts.get(person, 0))] for person, traffic in persons]
    headings = (*columns("person"), *numbers("forwards", "denied", "sent", "received", "time open", "hosts"))
    full = table("Each person, most bytes first", headings, rows)
    return [chart, full, *more_rows(len(rows), search_command(summary))]


def longest_and_largest(data: ReportData) -> list[Block]:
    """The longest and the largest forwards."""
    summary = data.summary

    def rows(forwards: Iterable[ForwardSummary]) -> list[list[Cell]]:
        return [
            [
                words(forward.person),
                words(f"{summary.name(forward.place)}:{forward.port}"),
                words(forward.client),
                moment(forward.opened, summary.window.zone),
                length(forward.duration),
                amount(forward.sent),
                amount(forward.received),
                words(forward.reason) if forward.reason else Cell(sentence("open"), short=True),
                code(forward.id),
            ]
            for forward in forwards
        ]

    if not summary.longest:
        return [soft("No forward was opened.")]
    headings = (
        *columns("person", "target", "from"),
        Column("opened", time=True),
        *numbers("duration", "sent", "received"),
        *columns("end", "id"),
    )
    return [
        soft("relayctl audit show ID shows the history of each."),
        table("The longest", headings, rows(summary.longest)),
        table("The largest", headings, rows(summary.largest)),
    ]

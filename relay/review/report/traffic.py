"""What flowed? Totals, time, people and hosts, hours of the week, the longest and largest forwards."""

from collections.abc import Iterable
from html import escape as quoted

from relay.core.human_units import size, span
from relay.review.activity_summary import ForwardSummary, Traffic
from relay.review.report.charts import Chart, Series
from relay.review.report.html import Cell, Column, amount, cards, code, count, grid, length, moment, table, words
from relay.review.report.paragraphs import ReportData, cut, figure, listed, numbers, said, search, soft
from relay.review.report.translations import Translator

PERSONS, PLACES = 40, 30  # of the matrix; more would be no picture
NEWS = 10  # that are told at once; the grave ones come first
BARS = 12  # lying bars of a chart


def news(findings: ReportData, say: Translator) -> str:
    """Totals, and the news, the grave first."""
    account = findings.account
    totals = (
        (say("forwards"), f"{account.total.opened:,}"),
        (say("denied"), f"{account.total.denied:,}"),
        (say("bytes"), size(account.total.bytes) or ""),
        (say("people"), f"{len(account.persons):,}"),
        (say("hosts"), f"{len({place for _, place in account.pairs}):,}"),
        (say("log-ins"), f"{account.logins:,}"),
        (say("time open"), span(account.total.duration)),
        (say("still open"), f"{account.open:,}"),
    )
    if not findings.news:
        return cards(totals) + soft(say, "Nothing that has not been so before.")
    first, rest = findings.news[:NEWS], findings.news[NEWS:100]
    told = f'<ul class="news">{"".join(listed(item, say) for item in first)}</ul>'
    if rest:
        more = said(say, "{count} more", count=len(findings.news) - NEWS)
        items = "".join(listed(item, say) for item in rest)
        told += f'<details><summary>{more}</summary><ul class="news">{items}</ul></details>'
    return cards(totals) + told + cut(say, len(findings.news), "relayctl audit digest", 100)


def flow(findings: ReportData, say: Translator) -> str:
    """Forwards and bytes over time."""
    account = findings.account
    steps = account.window.step
    form = {"hour": "%d. %Hh", "day": "%m-%d", "week": "%m-%d", "month": "%Y-%m"}[steps]
    starts, columns = list(account.columns), list(account.columns.values())
    labels = [f"{start:{form}}" for start in starts]
    per = {"hour": say("per hour"), "day": say("per day"), "week": say("per week"), "month": say("per month")}[steps]
    busiest = max(zip(columns, labels, strict=True), key=lambda found: found[0].opened, default=(Traffic(), ""))
    forwards = Chart(
        f"{say('Forwards')} {per}",
        say("{count} in all, most at {label}").format(count=f"{account.total.opened:,}", label=busiest[1]),
        labels,
        (
            Series(say("opened"), "a", [one.opened for one in columns]),
            Series(say("denied"), "bad", [one.denied for one in columns]),
        ),
        lambda value: f"{value:,}",
    )
    volume = Chart(
        f"{say('Bytes')} {per}",
        say("{sent} to targets, {received} from them; counted when a forward ends").format(
            sent=size(account.total.sent), received=size(account.total.received)
        ),
        labels,
        (
            Series(say("from targets"), "a", [one.received for one in columns]),
            Series(say("to targets"), "b", [one.sent for one in columns]),
        ),
        lambda value: size(value) or "",
    )
    rows = [
        [
            Cell(quoted(f"{start:%Y-%m-%d %H:%M}" if steps == "hour" else f"{start:%Y-%m-%d}"), number),
            *(count(one.opened), count(one.denied), amount(one.sent), amount(one.received)),
        ]
        for number, (start, one) in enumerate(zip(starts, columns, strict=True))
    ]
    columns_of = (Column(say("begins"), time=True), *numbers(say, "opened", "denied", "to targets", "from targets"))
    told = table(say("The same in numbers"), columns_of, rows, most=400)
    return (
        f"<figure>{figure(forwards)}</figure><figure>{figure(volume)}</figure>"
        f"<details><summary>{quoted(say('The same in numbers'))}</summary>{told}</details>"
    )


def matrix(findings: ReportData, say: Translator) -> str:
    """Forwards of each person to each host."""
    account = findings.account
    by_place: dict[tuple[str, str], int] = {}
    for (_, place), traffic in account.pairs.items():
        by_place[place] = by_place.get(place, 0) + traffic.opened
    persons = sorted(account.persons, key=lambda person: -account.persons[person].opened)
    places = sorted(by_place, key=lambda place: -by_place[place])
    if not places:
        return soft(say, "No forward was opened.")
    rows = []
    for person in persons[:PERSONS]:
        found = [account.pairs.get((person, place), Traffic()).opened for place in places[:PLACES]]
        rows.append((person, [Cell(_short(number) if number else "", number) for number in found]))
    picture = grid(
        say("Forwards of each person to each host"),
        [account.name(place) for place in places[:PLACES]],
        rows,
        kind="pairs",
        upright=False,
    )
    note = ""
    if len(persons) > PERSONS or len(places) > PLACES:
        note = soft(
            say,
            "the {persons} busiest of {all_persons} people, the {places} busiest of {all_places} hosts",
            persons=min(PERSONS, len(persons)),
            all_persons=len(persons),
            places=min(PLACES, len(places)),
            all_places=len(places),
        )
    busiest = sorted(account.pairs.items(), key=lambda found: -found[1].bytes)
    pairs = [
        [words(person), words(account.name(place)), words(place[0]), code(place[1]), *_traffic(traffic)]
        for (person, place), traffic in busiest
    ]
    columns = (
        *(Column(say(heading)) for heading in ("person", "host", "zone", "address")),
        *numbers(say, "forwards", "denied", "sent", "received", "time open"),
    )
    full = table(say("Each pair in numbers, most bytes first"), columns, pairs)
    more = cut(say, len(pairs), search(account))
    return f"{picture}{note}<details><summary>{quoted(say('Each pair in numbers'))}</summary>{full}{more}</details>"


def _short(number: int) -> str:
    return f"{number}" if number < 10_000 else f"{number // 1000}k"


def _traffic(traffic: Traffic) -> list[Cell]:
    return [
        count(traffic.opened),
        count(traffic.denied),
        amount(traffic.sent),
        amount(traffic.received),
        length(traffic.duration),
    ]


def hours(findings: ReportData, say: Translator) -> str:
    """Forwards of each hour of the week."""
    account = findings.account
    days = [say(day) for day in ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")]
    rows = [
        (day, [Cell(_short(number) if number else "", number) for number in account.hours[index]])
        for index, day in enumerate(days)
    ]
    caption = say("Forwards opened in each hour of the week, {zone}").format(zone=account.window.zone)
    return grid(caption, [f"{hour:02d}" for hour in range(24)], rows, kind="week")


def people(findings: ReportData, say: Translator) -> str:
    """What each person moved."""
    account = findings.account
    found = sorted(account.persons.items(), key=lambda one: -one[1].bytes)
    if not found:
        return soft(say, "Nobody was here.")
    top = found[:BARS]
    chart = Chart(
        say("Bytes of each person"),
        say("the {count} with the most").format(count=len(top)),
        [person for person, _ in top],
        (
            Series(say("from targets"), "a", [traffic.received for _, traffic in top]),
            Series(say("to targets"), "b", [traffic.sent for _, traffic in top]),
        ),
        lambda value: size(value) or "",
        lying=True,
    )
    hosts: dict[str, int] = {}
    for person, _ in account.pairs:
        hosts[person] = hosts.get(person, 0) + 1
    rows = [[words(person), *_traffic(traffic), count(hosts.get(person, 0))] for person, traffic in found]
    columns = (
        Column(say("person")),
        *numbers(say, "forwards", "denied", "sent", "received", "time open", "hosts"),
    )
    more = cut(say, len(rows), search(account))
    return f"<figure>{figure(chart)}</figure>{table(say('Each person, most bytes first'), columns, rows)}{more}"


def tops(findings: ReportData, say: Translator) -> str:
    """The longest and the largest forwards."""
    account = findings.account

    def rows(found: Iterable[ForwardSummary]) -> list[list[Cell]]:
        return [
            [
                words(forward.person),
                words(f"{account.name(forward.place)}:{forward.port}"),
                words(forward.client),
                moment(forward.opened, account.window.zone),
                length(forward.duration),
                amount(forward.sent),
                amount(forward.received),
                words(forward.reason or say("open")),
                code(forward.id),
            ]
            for forward in found
        ]

    columns = (
        *(Column(say(heading)) for heading in ("person", "target", "from")),
        Column(say("opened"), time=True),
        *numbers(say, "duration", "sent", "received"),
        *(Column(say(heading)) for heading in ("end", "id")),
    )
    if not account.longest:
        return soft(say, "No forward was opened.")
    hint = soft(say, "relayctl audit show ID tells the story of each.")
    longest = table(say("The longest"), columns, rows(account.longest))
    return hint + longest + table(say("The largest"), columns, rows(account.largest))

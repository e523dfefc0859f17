"""What is there to tell, and how is a paragraph of it told? What every section of the page uses."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape as quoted

from relay.review.activity_summary import DAY, ActivitySummary
from relay.review.digest import DigestItem
from relay.review.report.charts import Chart
from relay.review.report.html import Column, shown
from relay.review.report.translations import Translator
from relay.review.unused_items import Unused

ROWS = 200  # of a table


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything that the page tells."""

    account: ActivitySummary
    news: Sequence[DigestItem]
    unused: Sequence[Unused] | None  # None: what is applied is not known
    site: str  # the directory
    node: str
    policy: str  # version of what is applied
    made: int  # UTC microseconds
    proof: Sequence[DigestItem] = ()  # what a verification of the log said
    young: bool = False  # the log is as young as the window: nothing can be called new


def said(say: Translator, sentence: str, **gaps: object) -> str:
    """A sentence with its gaps filled in, as HTML. For values of ours: what comes from the log goes through `shown`."""
    return quoted(say(sentence).format_map({key: str(value) for key, value in gaps.items()}))


def soft(say: Translator, sentence: str, **gaps: object) -> str:
    """The same as a paragraph of its own."""
    return f'<p class="soft">{said(say, sentence, **gaps)}</p>'


def cut(say: Translator, found: int, command: str, most: int = ROWS) -> str:
    """What stands below a table that does not hold everything."""
    if found <= most:
        return ""
    return f"<p>{said(say, '{count} more; all of them:', count=found - most)} <code>{quoted(command)}</code></p>"


def search(account: ActivitySummary, *more: str) -> str:
    """The command that lists more of what a section tells."""
    days = max((account.window.until - account.window.since + DAY - 1) // DAY, 1)
    return " ".join(["relayctl audit search", *more, f"--since {days}d", "--limit 10000"])


def numbers(say: Translator, *headings: str) -> tuple[Column, ...]:
    """Columns of numbers."""
    return tuple(Column(say(heading), number=True) for heading in headings)


def figure(chart: Chart) -> str:
    """A chart under its heading."""
    return f"<figcaption><h3>{quoted(chart.title)}</h3>{quoted(chart.summary)}</figcaption>{chart.html()}"


def listed(item: DigestItem, say: Translator) -> str:
    """A piece of news as an entry of a list, with the command that tells more."""
    command = f"<code>{shown(item.command, 400)}</code>" if item.command else ""
    return f"<li{' class=grave' if item.grave else ''}>{shown(item.text(say), 600)}{command}</li>"

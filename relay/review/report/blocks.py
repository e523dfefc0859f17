"""The values a section of the report is made of: paragraphs, tables, charts, digest items.

No HTML here: templates/block.html renders each kind. A `str` in a cell or a head comes from the log and is escaped and
shortened when it is rendered; a `Sentence` is the page's own and is translated.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import ClassVar

from relay.core.human_units import size, span
from relay.review.activity_summary import DAY, ActivitySummary
from relay.review.digest import DigestItem
from relay.review.local_time import local_minute
from relay.review.unused_items import UnusedItem

ROWS = 200  # of a table
SHORT = 20  # characters of a text that is never broken: names, ids, words


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything that the page shows."""

    summary: ActivitySummary
    news: Sequence[DigestItem]
    unused: Sequence[UnusedItem] | None  # None: the running configuration cannot be read
    site: str  # the directory
    node: str
    policy: str  # version of the running configuration
    made: int  # UTC microseconds
    verification: Sequence[DigestItem] = ()  # the results of a verification of the log
    is_log_new: bool = False  # the log begins in the window: nothing can be called new


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of the page in English, with the values of its gaps."""

    sentence: str
    gaps: Mapping[str, object] = field(default_factory=dict)


Text = str | Sentence


def sentence(english: str, **gaps: object) -> Sentence:
    """A sentence with its gaps."""
    return Sentence(english, gaps)


@dataclass(frozen=True, slots=True)
class Cell:
    """A table's cell; `value` is the number it is sorted by (None: by its text)."""

    text: Text
    value: int | None = None
    code: bool = False  # to be typed or copied
    short: bool = False  # stays on one line


@dataclass(frozen=True, slots=True)
class Column:
    """A table's column: `number` is set right and sorted by value, `time` sorted by value and kept on one line."""

    heading: str
    number: bool = False
    time: bool = False

    @property
    def head_class(self) -> str | None:
        """The CSS classes of the heading."""
        return "n s" if self.number else "s" if self.time else None

    def cell_class(self, cell: Cell) -> str | None:
        """The CSS class of a cell of this column."""
        return "n" if self.number else "t" if self.time or cell.short else None


@dataclass(frozen=True, slots=True)
class Totals:
    """Cards, each with a name and a value of ours."""

    kind: ClassVar[str] = "totals"
    pairs: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph in the secondary text colour."""

    kind: ClassVar[str] = "paragraph"
    text: Text


@dataclass(frozen=True, slots=True)
class More:
    """The line below a table that was cut, with the command that shows all."""

    kind: ClassVar[str] = "more"
    text: Sentence
    command: str


@dataclass(frozen=True, slots=True)
class News:
    """Digest items as a list."""

    kind: ClassVar[str] = "news"
    items: Sequence[DigestItem]


@dataclass(frozen=True, slots=True)
class Facts:
    """Names of ours and values, as a small table."""

    kind: ClassVar[str] = "facts"
    pairs: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Table:
    """A table that can be sorted by every column."""

    kind: ClassVar[str] = "table"
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True, slots=True)
class Grid:
    """Counts by two things, darker where there are more."""

    kind: ClassVar[str] = "grid"
    caption: Sentence
    heads: Sequence[str]
    rows: Sequence[tuple[Text, Sequence[int]]]
    style: str  # a CSS class
    turned: bool = False  # heads are written upwards

    def shade(self, count: int) -> str | None:
        """The CSS class for a count: seven steps by its square root, so that a few can be told from none."""
        most = max((max(counts, default=0) for _, counts in self.rows), default=0)
        return f"h{max(1, min(7, round(7 * (count / most) ** 0.5)))}" if count > 0 else None

    def short(self, count: int) -> str:
        """A count in at most four characters; nothing for none."""
        return "" if not count else f"{count}" if count < 10_000 else f"{count // 1000}k"


@dataclass(frozen=True, slots=True)
class Series:
    """One colour of a chart: `kind` is its CSS class."""

    name: str
    kind: str
    values: Sequence[int]


@dataclass(frozen=True, slots=True)
class Chart:
    """Stacked bars: upright over time, or `horizontal` for names."""

    kind: ClassVar[str] = "chart"
    title: str
    summary: Sentence
    labels: Sequence[str]
    series: Sequence[Series]
    show: Callable[[int], str]
    horizontal: bool = False


@dataclass(frozen=True, slots=True)
class Folded:
    """Blocks that are shown on demand."""

    kind: ClassVar[str] = "folded"
    title: Text
    blocks: "Sequence[Block]"


Block = Totals | Paragraph | More | News | Facts | Table | Grid | Chart | Folded


def soft(english: str, **gaps: object) -> Paragraph:
    """A sentence of the page as a paragraph."""
    return Paragraph(Sentence(english, gaps))


def table(caption: str, columns: Sequence[Column], rows: Sequence[Sequence[Cell]], *, most: int = ROWS) -> Table:
    """A table of the first `most` rows. The caller appends `more_rows(...)`, the line that counts the rest."""
    return Table(caption, columns, rows[:most])


def more_rows(count: int, command: str, most: int = ROWS) -> list[Block]:
    """The line below a table of `count` rows of which `most` are shown."""
    return [More(sentence("{count} more; all of them:", count=count - most), command)] if count > most else []


def search_command(summary: ActivitySummary, *options: str) -> str:
    """The command that lists more of a section."""
    days = max((summary.window.until - summary.window.since + DAY - 1) // DAY, 1)
    return " ".join(["relayctl audit search", *options, f"--since {days}d", "--limit 10000"])


def columns(*headings: str) -> tuple[Column, ...]:
    """Columns of texts."""
    return tuple(map(Column, headings))


def numbers(*headings: str) -> tuple[Column, ...]:
    """Columns of numbers."""
    return tuple(Column(heading, number=True) for heading in headings)


def words(text: str) -> Cell:
    """A text as a cell."""
    return Cell(text, short=len(text) <= SHORT)


def code(text: str) -> Cell:
    """A text to be typed or copied, as a cell; hardly ever cut: an id is of use whole only."""
    return Cell(text, code=bool(text), short=len(text) <= SHORT + 12)


def count(number: int) -> Cell:
    """A number as a cell."""
    return Cell(f"{number:,}", number)


def amount(number: int) -> Cell:
    """Bytes as a cell."""
    return Cell(size(number) or "", number)


def length(us: int) -> Cell:
    """A span of time as a cell."""
    return Cell(span(us), us)


def moment(us: int | None, zone: tzinfo) -> Cell:
    """A time as a cell."""
    return Cell("", 0) if us is None else Cell(local_minute(us, zone), us)

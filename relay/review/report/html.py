"""How does a value from the log become HTML that nobody can bend?

Every text goes through `shown`: control characters and bidi tricks are written out (core.escape.escape), then HTML's
own letters are quoted, and what is not ASCII stands in a <bdi>, so that it cannot reorder its neighbours.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from html import escape as quoted

from relay.core.escape import escape
from relay.core.human_units import size, span

SHORT = 20  # characters of a text that is never broken: names, ids, words
LONGEST = 80  # characters of one text in a table: `audit show` has the whole
TALL = 24  # rows of a table that has a scroll bar of its own on a screen, so that the page is not all tables


@dataclass(frozen=True, slots=True)
class Cell:
    """A table's cell: ready HTML, and the number it is sorted by (None: by its text)."""

    html: str
    value: int | None = None
    short: bool = False  # stays on one line


@dataclass(frozen=True, slots=True)
class Column:
    """A table's column: `number` is set right and sorted by value, `time` sorted by value and kept on one line."""

    heading: str
    number: bool = False
    time: bool = False


def shown(text: str, most: int = LONGEST) -> str:
    """A text from outside as HTML."""
    safe = quoted(escape(text, most))
    return safe if safe.isascii() else f"<bdi>{safe}</bdi>"


def words(text: str) -> Cell:
    """A text as a cell."""
    return Cell(shown(text), short=len(text) <= SHORT)


def code(text: str) -> Cell:
    """A text to be typed or copied, as a cell; never cut, an id is of use whole only."""
    return Cell(f"<code>{shown(text, 400)}</code>" if text else "", short=len(text) <= SHORT + 12)


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
    return Cell("", 0) if us is None else Cell(clock(us, zone), us)


def clock(us: int, zone: tzinfo) -> str:
    """A time on the site's clocks, to the minute."""
    try:
        return f"{datetime.fromtimestamp(us // 1_000_000, zone):%Y-%m-%d %H:%M}"
    except (ValueError, OverflowError, OSError):
        return f"{us} us"


def table(caption: str, columns: Sequence[Column], rows: Iterable[Sequence[Cell]], *, most: int = 200) -> str:
    """A table that can be sorted by every column. More than `most` rows are cut: the caller says how to see them."""
    head = "".join(
        f'<th scope="col"{_classes("n" * column.number, "s" * (column.number or column.time))}>'
        f'<button type="button">{quoted(column.heading)}</button></th>'
        for column in columns
    )
    kept = list(rows)[:most]
    body = "".join(
        f"<tr>{''.join(_cell(cell, column) for cell, column in zip(row, columns, strict=True))}</tr>" for row in kept
    )
    tall = " tall" if len(kept) > TALL else ""
    return (
        f'<div class="scroll{tall}" tabindex="0" role="region" aria-label="{quoted(caption)}"><table>'
        f"<caption>{quoted(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(cell: Cell, column: Column) -> str:
    value = f' data-v="{cell.value}"' if cell.value is not None else ""
    kept = column.time or (cell.short and not column.number)
    return f"<td{_classes('n' * column.number, 't' * kept)}{value}>{cell.html}</td>"


def _classes(*names: str) -> str:
    found = " ".join(filter(None, names))
    return f' class="{found}"' if found else ""


def grid(
    caption: str, heads: Sequence[str], rows: Sequence[tuple[str, Sequence[Cell]]], *, kind: str, upright: bool = True
) -> str:
    """Counts by two things, darker where there are more; a cell's value is its count."""
    top = max((cell.value or 0 for _, cells in rows for cell in cells), default=0)
    head = "".join(f'<th scope="col"{_classes("up" * (not upright))}>{shown(text, 28)}</th>' for text in heads)
    body = "".join(
        f'<tr><th scope="row">{shown(name, 28)}</th>'
        + "".join(f"<td{_classes(shade(cell.value or 0, top))}>{cell.html}</td>" for cell in cells)
        + "</tr>"
        for name, cells in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{quoted(caption)}"><table class="grid {kind}">'
        f"<caption>{quoted(caption)}</caption><thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def shade(value: int, top: int) -> str:
    """The class for a count: seven steps by its square root, so that few are told from none."""
    if value <= 0 or top <= 0:
        return ""
    return f"h{max(1, min(7, round(7 * (value / top) ** 0.5)))}"


def cards(pairs: Iterable[tuple[str, str]]) -> str:
    """Totals, each with its name."""
    found = "".join(f"<div><dt>{quoted(name)}</dt><dd>{quoted(value)}</dd></div>" for name, value in pairs)
    return f'<dl class="cards">{found}</dl>'

"""The values that a section of the report consists of."""

import pytest

from relay.review.report.blocks import Cell, Column, Grid, code, more_rows, numbers, sentence, table, words


def test_a_table_keeps_its_first_rows_and_says_how_many_are_missing():
    """The line below it has the command that shows all; a table that is whole has none."""
    rows = [[Cell(str(number))] for number in range(5)]
    assert table("t", numbers("n"), rows, most=3).rows == rows[:3]
    (line,) = more_rows(5, "relayctl audit search", 3)
    assert (line.text.gaps["count"], line.command) == (2, "relayctl audit search")
    assert more_rows(3, "relayctl audit search", 3) == []


@pytest.mark.parametrize(
    ("count", "shade", "text"),
    [(0, None, ""), (1, "h1", "1"), (49, "h5", "49"), (100, "h7", "100"), (-1, None, "-1")],
)
def test_a_grid_is_darker_where_there_are_more(count, shade, text):
    """Seven steps by the square root of the share; none has no colour and no text."""
    grid = Grid(sentence("g"), ["a", "b"], [("row", [0, 100])], "week")
    assert (grid.shade(count), grid.short(count)) == (shade, text)


def test_large_counts_are_shortened():
    """At most four characters up to ten million."""
    grid = Grid(sentence("g"), [], [], "week")
    assert [grid.short(count) for count in (9_999, 10_000, 1_234_567)] == ["9999", "10k", "1234k"]


def test_only_short_texts_and_times_stay_on_one_line():
    """A long name may be broken, an id may not."""
    column = Column("person")
    assert column.cell_class(words("alice")) == "t"
    assert column.cell_class(words("a" * 21)) is None
    assert column.cell_class(code("0k3v9x2m4qz")) == "t"
    assert Column("n", number=True).cell_class(words("1")) == "n"
    assert Column("t", time=True).cell_class(words("a" * 30)) == "t"

"""How a command prints what it found: JSON for programs, a table for people, colour on a terminal only."""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import click

from relay.core.text import escape

_Command = TypeVar("_Command", bound=Callable[..., Any])


def json_option(command: _Command) -> _Command:
    """The option `--json` of every listing command; the command is given `as_json: bool`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")(command)


def print_json(value: object) -> None:
    """Print `value` as JSON on stdout; non-ASCII text is escaped, so no terminal can be tricked by it."""
    click.echo(json.dumps(value, indent=2, default=str))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under headings. Cells are escaped: they may hold a stranger's text; None is an empty cell."""
    cells = [["" if cell is None else escape(str(cell), 500) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        # for pipes and files: aligned, never cut to a width, and without paying for rich
        lines = [list(columns), *cells]
        widths = [max(len(line[column]) for line in lines) for column in range(len(columns))]
        for line in lines:
            click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in cells:
        shown.add_row(*(Text(cell) for cell in row))
    Console().print(shown)

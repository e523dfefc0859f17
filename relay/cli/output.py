"""Output of commands: JSON for programs, tables for people, progress on a terminal."""

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from relay.core.escape import escape
from relay.core.human_units import count, size, span

__all__ = ["count", "json_option", "print_json", "progress", "size", "span", "table", "waiting"]

_Command = TypeVar("_Command", bound=Callable[..., Any])


def json_option(command: _Command) -> _Command:
    """The option `--json` of every listing command; the command is given `as_json: bool`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")(command)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show on stderr what the command waits for, if it is a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    click.echo(f"\r\x1b[K  ...      waiting for {escape(what, 60)}", nl=False, err=True)
    try:
        yield
    finally:
        click.echo("\r\x1b[K", nl=False, err=True)


@contextmanager
def progress(what: str) -> Iterator[Callable[[float], None]]:
    """Show the progress (0 to 1) on stderr after half a second, if it is a terminal."""
    began, shown = time.monotonic(), -1

    def advance(share: float) -> None:
        nonlocal shown
        percent = min(int(share * 100), 100)
        if percent != shown and time.monotonic() - began > 0.5:
            shown = percent
            click.echo(f"\r\x1b[K  {percent:3} %    {escape(what, 60)}", nl=False, err=True)

    if not sys.stderr.isatty():
        yield lambda share: None
        return
    try:
        yield advance
    finally:
        if shown >= 0:
            click.echo("\r\x1b[K", nl=False, err=True)


def print_json(value: object) -> None:
    """Print `value` as JSON on stdout; non-ASCII text is escaped, so it cannot manipulate a terminal."""
    click.echo(json.dumps(value, indent=2, default=str))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under headings. Cells are escaped: they may contain untrusted text. None is an empty cell."""
    cells = [["" if cell is None else escape(str(cell), 500) for cell in row] for row in rows]
    measure: Callable[[str], int] = len
    terminal = sys.stdout.isatty()
    if terminal:
        from rich.cells import cell_len  # imported for terminals only

        measure = cell_len  # Chinese characters take two columns
    lines = [list(columns), *cells]
    widths = [max(measure(line[column]) for line in lines) for column in range(len(columns))]
    for number, line in enumerate(lines):
        # not wrapped to the terminal's width, so that fingerprints can be copied
        shown = "  ".join(
            cell + " " * (width - measure(cell)) for cell, width in zip(line, widths, strict=True)
        ).rstrip()
        click.echo(click.style(shown, bold=True) if terminal and number == 0 else shown)

"""Generates docs/reference/relayctl.md from the help texts: `python tools/reference.py` (a test compares them)."""

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from relay.cli import group

DOCUMENT = Path(__file__).parents[1] / "docs" / "reference" / "relayctl.md"
_HEAD = """\
# relayctl

Every command with its options, as `relayctl COMMAND --help` prints it. Written by `python tools/reference.py`.
"""


def commands(
    command: click.Command, path: tuple[str, ...], parent: click.Context | None = None
) -> Iterator[tuple[tuple[str, ...], click.Command, click.Context]]:
    """The command and its subcommands, each with its path and context."""
    context = click.Context(command, info_name=path[-1], parent=parent, **command.context_settings)
    context.terminal_width = 100
    yield path, command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None and not below.hidden:
                yield from commands(below, (*path, name), context)


def text() -> str:
    """The text of the document."""
    sections = [_HEAD]
    for path, command, context in commands(group, ("relayctl",)):
        mark = "##" if len(path) < 3 else "###"
        sections.append(f"{mark} {' '.join(path)}\n\n```\n{command.get_help(context).rstrip()}\n```\n")
    return "\n".join(sections)


if __name__ == "__main__":
    DOCUMENT.parent.mkdir(exist_ok=True)
    DOCUMENT.write_text(text())
    sys.stdout.write(f"wrote {DOCUMENT}\n")

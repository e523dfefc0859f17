"""Every command can be imported, says what it is for, shows an example, and is documented."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from relay import __version__
from relay.cli import COMMANDS, group

CHECKOUT = Path(__file__).parents[2]
DOCUMENT = CHECKOUT / "docs" / "reference" / "relayctl.md"


def command_named(name: str) -> click.Command:
    command = group.get_command(click.Context(group), name)
    assert command is not None
    return command


@pytest.mark.parametrize("name", COMMANDS)
def test_help(name: str) -> None:
    """A command's own first line is the one that `relayctl --help` shows, and its help has an example."""
    command = command_named(name)
    assert command.help is not None
    assert command.help.splitlines()[0] == COMMANDS[name][2]
    commands = list(command.commands.values()) if isinstance(command, click.Group) else [command]
    for one in commands:
        assert "Example:" in (one.help or ""), one.name
        assert f"relayctl {name}" in (one.help or "").replace(" --site /etc/relay", "").replace(" --site .", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_documented(name: str) -> None:
    """docs/reference/relayctl.md has a section for each command."""
    assert f"\n## relayctl {name}\n" in DOCUMENT.read_text()


def test_reference_is_current() -> None:
    """docs/reference/relayctl.md is what the commands' help says now (`python tools/reference.py` writes it)."""
    spec = importlib.util.spec_from_file_location("reference", CHECKOUT / "tools" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert DOCUMENT.read_text() == module.text()


def test_help_imports_no_command() -> None:
    """`relayctl --help` lists all commands without importing one, nor anything that is slow to import."""
    code = (
        "import sys; sys.argv = ['relayctl', '-h']\nfrom relay.cli import main\ntry: main()\nexcept SystemExit: pass\n"
    )
    check = "print(*[name for name in sys.modules if name.startswith(('pydantic', 'rich', 'yaml', 'relay.cli.'))])"
    done = subprocess.run([sys.executable, "-c", code + check], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""
    assert all(f"  {name} " in done.stdout for name in COMMANDS)


def test_version() -> None:
    """`--version` prints the version."""
    assert __version__ in CliRunner().invoke(group, ["--version"]).output


def test_unknown_command() -> None:
    """A mistyped command is wrong usage, and the nearest one is named."""
    found = CliRunner().invoke(group, ["chek"])
    assert found.exit_code == 2
    assert "did you mean 'check'?" in found.output

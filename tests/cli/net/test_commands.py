"""The group `relayctl net`: its subcommands are imported only when they are called."""

import subprocess
import sys

import click

from relay.cli.net.commands import net


def test_every_listed_command_can_be_loaded() -> None:
    """Each name leads to a command with help; an unknown one to none."""
    context = click.Context(net)
    for name in net.list_commands(context):
        command = net.get_command(context, name)
        assert command is not None
        assert command.help
    assert net.get_command(context, "nonesuch") is None


def test_the_list_imports_no_command() -> None:
    """`relayctl net --help` stays quick: nothing that probes or plans is loaded for it."""
    script = (
        "import sys\nfrom relay.cli.net.commands import net\nnet.main(['--help'], standalone_mode=False)\n"
        "print([name for name in sys.modules if name.startswith(('relay.net', 'relay.cli.net.status'))])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"

"""`relayctl net`: the network around the relay, planned, applied, observed and verified."""

import importlib

import click

# name -> (module, the line that `relayctl net --help` shows); imported only when called
_COMMANDS: dict[str, tuple[str, str]] = {
    "status": ("status", "Show each zone: interface, route, gateway, and the overlay's own view."),
    "plan": ("plan", "Print what each machine needs, as scripts."),
    "apply": ("apply", "Do the relay host's part of the plan here."),
    "verify": ("verify", "Walk the way into each zone, up to the first broken link."),
}


class NetGroup(click.Group):
    """A group that imports a subcommand only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of use."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The subcommand `relay.cli.net.NAME`, None for an unknown name."""
        if cmd_name not in _COMMANDS:
            return None
        command = getattr(importlib.import_module(f"relay.cli.net.{_COMMANDS[cmd_name][0]}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in _COMMANDS.items()])


@click.group(cls=NetGroup)
def net() -> None:
    """Plan, set up, watch and verify the network.

    \b
    Example:
      relayctl net plan
      sudo relayctl net apply
      sudo relayctl net status
      sudo relayctl net verify
    """

"""`relayctl net apply`: being built."""

import click


@click.command()
def apply() -> None:
    """Do the relay host's part of the plan here.

    \b
    Example:
      relayctl net apply
    """

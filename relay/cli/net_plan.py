"""`relayctl net plan`: being built."""

import click


@click.command()
def plan() -> None:
    """Print what each machine needs, as scripts.

    \b
    Example:
      relayctl net plan
    """

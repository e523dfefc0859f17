"""`relayctl net verify`: being built."""

import click


@click.command()
def verify() -> None:
    """Walk the way into each zone, up to the first broken link.

    \b
    Example:
      relayctl net verify
    """

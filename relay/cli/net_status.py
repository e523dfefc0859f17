"""`relayctl net status`: being built."""

import click


@click.command()
def status() -> None:
    """Show each zone: interface, route, gateway, and the overlay's own view.

    \b
    Example:
      relayctl net status
    """

"""`relayctl schema`: JSON Schema for editors."""

import click


@click.command()
@click.argument("document", type=click.Choice(["relay", "policy", "network"]))
def schema(document: str) -> None:
    """Print the JSON Schema of the site's files.

    `relay` is the schema of relay.yaml, `policy` that of policies/*.yaml, `network` that of network.yaml. `relayctl
    init` writes the first two into the site, and its files name them in their first line, so editors with a YAML
    language server complete and check them.

    \b
    Example:
      relayctl schema policy > schemas/policy.schema.json
    """
    from relay.site import json_schema

    click.echo(json_schema.text(document), nl=False)

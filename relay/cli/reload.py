"""`relayctl reload`: makes the site's files law, all or nothing."""

import click

from relay.cli import Context
from relay.cli.output import json_option, print_json


@click.command()
@json_option
@click.pass_obj
def reload(ctx: Context, as_json: bool) -> None:
    """Apply the site's files to the running relay.

    The files are compiled and checked first, expectations included; with any fault nothing changes. Forwards that
    are no longer allowed end within a second.

    \b
    Example:
      relayctl reload
    """
    from relay.people import doer
    from relay.serve import control

    site = ctx.site(announce=not as_json)
    answer = control.call(site.state, {"do": "reload", "by": doer.fields()})
    if as_json:
        print_json(answer)
    elif answer.get("ok"):
        for line in answer["changed"] or ["nothing changed"]:
            click.echo(line)
        for line in answer["warnings"]:
            click.echo(f"warning: {line}", err=True)
        for line in answer["out"]:
            click.echo(f"a key is out: {line}", err=True)
        click.echo(f"applied: policy {answer['version']}, {answer['keys']} keys")
    else:
        for file, number, what, cure in answer.get("faults", []):
            click.echo(f"{file}:{number}: {what}" + (f"; {cure}" if cure else ""), err=True)
        if "problem" in answer:
            click.echo(f"relayctl: {answer['problem']}", err=True)
        click.echo("nothing was applied; what was applied before goes on", err=True)
    raise SystemExit(0 if answer.get("ok") else 1)

"""`relayctl doctor`: runs all health checks."""

import click

from relay.cli import Context
from relay.cli.output import json_option, print_json


@click.command()
@click.option("--limits", "limits_only", is_flag=True, help="Only how much of each limit the running relay uses.")
@json_option
@click.pass_obj
def doctor(ctx: Context, limits_only: bool, as_json: bool) -> None:
    """Find out why it does not work.

    Checks modes, files (as check does), keys, host keys, clock, audit database, the running relay and its sockets,
    the route to every zone (as net status and net verify do), and the offered algorithms; prints the first remedy last.
    Changes nothing. Takes up to a minute if hosts do not answer. Exit status 1 for any fault.

    \b
    Example:
      sudo relayctl doctor
    """
    from dataclasses import asdict

    site = ctx.site()
    if limits_only:
        from relay.cli.running import limits

        limits.show(site, as_json=as_json)
        return

    from relay.cli import health_checks

    findings = []
    for finding in health_checks.run(site):
        findings.append(finding)
        if not as_json:
            colour = {"ok": "green", "warning": "yellow", "fault": "red"}[finding.state]
            cure = f"\n           -> {finding.cure}" if finding.cure else ""
            click.echo(f"{click.style(f'{finding.state:8}', fg=colour)} {finding.name}: {finding.what}{cure}")
    faults = [finding for finding in findings if finding.state == "fault"]
    if as_json:
        print_json([asdict(finding) for finding in findings])
    elif faults:
        click.echo(f"first: {faults[0].cure or faults[0].what}", err=True)
    raise SystemExit(1 if faults else 0)

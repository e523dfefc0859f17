"""`relayctl reload`: applies the site's files, completely or not at all."""

import time

import click

from relay.cli import Context
from relay.cli.output import json_option, print_json, waiting
from relay.cli.running import impact, open_sessions
from relay.people import audit_actor
from relay.serve import control_client
from relay.site import lint
from relay.site.locate import Site


@click.command()
@click.option("--dry-run", is_flag=True, help="Only show what would change, and which sessions would end.")
@json_option
@click.pass_obj
def reload(ctx: Context, dry_run: bool, as_json: bool) -> None:
    """Apply the site's files to the running relay.

    The files are compiled and checked first, expectations included; with any fault nothing changes. Forwards that
    are no longer allowed end within a second.

    \b
    Example:
      relayctl reload --dry-run
      relayctl reload
    """
    site = ctx.site(announce=not as_json)
    if dry_run:
        raise SystemExit(_dry_run(site, as_json=as_json))
    with waiting("the relay to check the files"):
        answer = control_client.call(site.state, {"do": "reload", "by": audit_actor.fields()})
    if as_json:
        print_json(answer)
    elif answer.get("ok"):
        for line in answer["changed"] or ["nothing changed"]:
            click.echo(line)
        for line in answer["warnings"]:
            click.echo(f"warning: {line}", err=True)
        for line in answer["out"]:
            click.echo(f"a key is not accepted: {line}", err=True)
        click.echo(f"applied: policy {answer['version']}, {answer['keys']} keys")
    else:
        for file, number, what, cure in answer.get("faults", []):
            click.echo(f"{file}:{number}: {what}" + (f"; {cure}" if cure else ""), err=True)
        if "problem" in answer:
            click.echo(f"relayctl: {answer['problem']}", err=True)
        click.echo("nothing was applied; the running configuration stays", err=True)
    raise SystemExit(0 if answer.get("ok") else 1)


def _dry_run(site: Site, *, as_json: bool) -> int:
    """Show the effect of a reload; returns its exit status. Raises RelayNotRunning."""
    result = lint.check_site(site, now=int(time.time()))
    compiled = result.examination.compiled
    faults = (*result.examination.faults, *(failure.fault() for failure in result.examination.failures))
    changes = [str(different) for different in result.differences]
    if not as_json:
        for fault in faults:
            click.echo(str(fault), err=True)
        for line in changes or ["nothing differs from the running configuration"]:
            click.echo(line)
        for fault in result.keys.faults:
            click.echo(f"a key is not accepted: {fault}", err=True)
    if compiled is None:
        if as_json:
            print_json({"ok": False, "faults": [[fault.file, fault.line, fault.what, fault.cure] for fault in faults]})
        else:
            click.echo("nothing would be applied; the running configuration would stay", err=True)
        return 1
    there = open_sessions.query(site, {"do": "connections"})
    authorizer = impact.candidate_authorizer(site, compiled.policy, compiled.settings, result.keys)
    ended = list(impact.impact_of_policy(there, authorizer))
    if as_json:
        silent = list(there.silent)
        print_json({"ok": True, "changed": changes, "cut": impact.as_json(ended), "silent_workers": silent})
    else:
        impact.print_impact(ended, there)
        click.echo("nothing was applied", err=True)
    return 0

"""`relayctl check`: all faults of the site's files at once."""

import time
from typing import Any

import click

from relay.cli import Context
from relay.cli.output import count, json_option, print_json
from relay.errors import Fault
from relay.site import lint
from relay.site.lint import LintResult


@click.command()
@json_option
@click.pass_obj
def check(ctx: Context, as_json: bool) -> None:
    """Check the site's files and expectations.

    Prints every fault as file:line with a remedy, every expectation that does not hold with the rule that decided,
    what expires within 14 days, and what is not applied yet. Nothing is changed. Exit status 1 for any fault.

    \b
    Example:
      relayctl check
      relayctl --site . check --json
    """
    site = ctx.site()
    result = lint.check_site(site, now=int(time.time()))
    if as_json:
        print_json({"site": str(site.path), **_json(result)})
    else:
        _print(result)
    raise SystemExit(0 if result.good else 1)


def _print(result: LintResult) -> None:
    for fault in result.faults:
        click.echo(str(fault))
    for failure in result.examination.failures:
        click.echo(str(failure.fault()))
    for warning in result.warnings:
        click.echo(f"{click.style('warning', fg='yellow')}: {warning}")
    for different in result.differences:
        click.echo(f"not as applied: {different}")
    if result.note:
        click.echo(result.note, err=True)
    elif result.differences and result.good:
        click.echo("run relayctl reload to apply them", err=True)
    if result.good:
        policy = result.examination.compiled
        assert policy is not None
        zones, hosts = len(policy.policy.inventory.zones), len(policy.policy.inventory.hosts)
        rules, held = len(tuple(policy.policy.rules())), len(policy.expectations)
        persons = len({key.person for key in result.keys.keys.values()})
        click.echo(
            f"valid: policy {policy.version}; {count(zones, 'zone')}, {count(hosts, 'host')}, {count(rules, 'rule')}, "
            f"{count(held, 'expectation')} met; "
            f"{count(persons, 'person')} with {count(len(result.keys.keys), 'key')}"
        )
    else:
        faults, failures = len(result.faults), len(result.examination.failures)
        click.echo(f"not valid: {count(faults, 'fault')}, {count(failures, 'expectation')} not met", err=True)


def _json(result: LintResult) -> dict[str, Any]:
    examination = result.examination
    return {
        "valid": result.good,
        "policy": examination.version,
        "faults": [_fault(fault) for fault in result.faults],
        "failures": [
            {
                **_fault(failure.fault()),
                "expectation": str(failure.expectation),
                "reason": failure.decision.reason.value,
                "rule": failure.decision.rule.name if failure.decision.rule else None,
                "rule_at": failure.decision.rule.at if failure.decision.rule else None,
            }
            for failure in examination.failures
        ],
        "warnings": [_fault(warning) for warning in result.warnings],
        "differences": [{"what": different.what, "change": different.change} for different in result.differences],
        "note": result.note or None,
    }


def _fault(fault: Fault) -> dict[str, Any]:
    return {"file": fault.file, "line": fault.line, "what": fault.what, "cure": fault.cure}

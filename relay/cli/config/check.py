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
    found = lint.check_site(site, now=int(time.time()))
    if as_json:
        print_json({"site": str(site.path), **_json(found)})
    else:
        _print(found)
    raise SystemExit(0 if found.good else 1)


def _print(found: LintResult) -> None:
    for fault in found.faults:
        click.echo(str(fault))
    for failure in found.examination.failures:
        click.echo(str(failure.fault()))
    for warning in found.warnings:
        click.echo(f"{click.style('warning', fg='yellow')}: {warning}")
    for different in found.differences:
        click.echo(f"not as applied: {different}")
    if found.note:
        click.echo(found.note, err=True)
    elif found.differences and found.good:
        click.echo("run relayctl reload to apply them", err=True)
    if found.good:
        policy = found.examination.compiled
        assert policy is not None
        zones, hosts = len(policy.policy.inventory.zones), len(policy.policy.inventory.hosts)
        rules, held = len(tuple(policy.policy.rules())), len(policy.expectations)
        persons = len({key.person for key in found.keys.keys.values()})
        click.echo(
            f"valid: policy {policy.version}; {count(zones, 'zone')}, {count(hosts, 'host')}, {count(rules, 'rule')}, "
            f"{count(held, 'expectation')} met; "
            f"{count(persons, 'person')} with {count(len(found.keys.keys), 'key')}"
        )
    else:
        faults, failures = len(found.faults), len(found.examination.failures)
        click.echo(f"not valid: {count(faults, 'fault')}, {count(failures, 'expectation')} not met", err=True)


def _json(found: LintResult) -> dict[str, Any]:
    examination = found.examination
    return {
        "valid": found.good,
        "policy": examination.version,
        "faults": [_fault(fault) for fault in found.faults],
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
        "warnings": [_fault(warning) for warning in found.warnings],
        "differences": [{"what": different.what, "change": different.change} for different in found.differences],
        "note": found.note or None,
    }


def _fault(fault: Fault) -> dict[str, Any]:
    return {"file": fault.file, "line": fault.line, "what": fault.what, "cure": fault.cure}

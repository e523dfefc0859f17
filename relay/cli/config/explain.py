"""`relayctl explain`: the decision about a person and a target, and what would change it."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

import click

from relay.cli import Context
from relay.cli.output import json_option, print_json
from relay.core.policy.model import Address
from relay.core.policy.target import parse_spec
from relay.errors import InputRejected, RelayError
from relay.net.kernel import interfaces
from relay.site import explain_target, times
from relay.site.explain_target import ExplainAnswer
from relay.site.yaml import scalars

_Value = TypeVar("_Value")


@click.command()
@click.argument("person")
@click.argument("target")
@click.option("--from", "source", metavar="IP", help="Where the person connects from (else: no address a rule names).")
@click.option("--at", metavar="TIME", help="When, in the site's time zone: 2026-12-31T18:00 (else now).")
@json_option
@click.pass_obj
def explain(ctx: Context, *, person: str, target: str, source: str | None, at: str | None, as_json: bool) -> None:
    """Say whether a person may reach a target, and why.

    Prints the decision, the deciding rule with file and line, and what would have to change for another answer. Uses
    the running configuration, or the files if nothing was applied yet. Exit status 1 for a denial.

    \b
    Example:
      relayctl explain alice remote:22
      relayctl explain carol 192.168.1.201.office:22 --from 203.0.113.7 --at 2026-12-31T18:00
    """
    asked = explain_target.ExplainRequest(
        _parameter("PERSON", scalars.name, person),
        _parameter("TARGET", parse_spec, target),
        _parameter("--from", scalars.address, source) if source is not None else None,
        _parameter("--at", times.moment, at) if at is not None else None,
    )
    answer = explain_target.answer(ctx.site(), asked, now=int(time.time()), own=_own_addresses)
    if as_json:
        print_json(_json(answer))
    else:
        first, *rest = answer.explanation.lines()
        click.echo(click.style(first, fg="green" if answer.explanation.decision.allowed else "red"))
        for line in rest:
            click.echo(line)
        for note in answer.notes:
            click.echo(f"  note     {note}")
    raise SystemExit(0 if answer.explanation.decision.allowed else 1)


def _parameter(name: str, parse: Callable[[str], _Value], text: str) -> _Value:
    """Parse an argument; an invalid one is a usage error, with another exit status than a denial."""
    try:
        return parse(text)
    except InputRejected as error:
        raise click.BadParameter(f"{error.what}; {error.hint}", param_hint=name) from None


def _own_addresses() -> frozenset[Address]:
    """This machine's addresses; none if they cannot be read (not Linux)."""
    try:
        return interfaces.own_addresses()
    except (OSError, RelayError):
        return frozenset()


def _json(answer: ExplainAnswer) -> dict[str, Any]:
    explanation, decision = answer.explanation, answer.explanation.decision
    return {
        "asked": explanation.asked,
        "allowed": decision.allowed,
        "reason": decision.reason.value,
        "detail": decision.detail or None,
        "destination": None
        if decision.destination is None
        else {
            "zone": decision.destination.zone,
            "address": str(decision.destination.address),
            "port": decision.destination.port,
        },
        "choices": list(decision.choices),
        "rule": decision.rule.name if decision.rule else None,
        "rule_at": decision.rule.at if decision.rule else None,
        "rule_text": explanation.rule_words or None,
        "changes": list(explanation.changes),
        "key": answer.key.fingerprint if answer.key else None,
        "applied": answer.applied,
        "at": answer.at,
        "notes": list(answer.notes),
    }

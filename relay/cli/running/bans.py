"""`relayctl bans` and `unban`: sources with a slower welcome and frozen keys, and how to forgive them."""

import time
from typing import Any

import click

from relay.cli import Context
from relay.cli.output import json_option, print_json, table
from relay.core.escape import escape
from relay.errors import RelayError

_WHY = {
    "failed": "no known key",
    "silent": "no key offered",
    "timeout": "grace time passed",
    "junk": "no SSH",
}


@click.command()
@json_option
@click.pass_obj
def bans(ctx: Context, as_json: bool) -> None:
    """List penalised sources and frozen keys.

    A source is an IPv4 address or an IPv6 /64. Each connection that ends there without a proven key adds seconds, and
    from a sum on the source is penalised: one connection at a time may still try. A source where a key was lately
    proven never is. `penalties:` in relay.yaml says how many seconds, and whom nothing is held against. Keys are frozen
    after a scan where `scan_freeze` says so.

    \b
    Example:
      relayctl bans
    """
    from relay.serve import control_client

    answer = _answer(control_client.call(ctx.site().state, {"do": "bans"}, timeout=10))
    sources, frozen = answer["bans"], answer.get("frozen", [])
    if as_json:
        print_json({"sources": sources, "keys": frozen})
        return
    now = time.time()
    if sources:
        table(
            ("source", "ends in", "failures", "last", "turned away", "for", "id"),
            [
                (
                    one["source"],
                    span(one["until"] - now),
                    one["failures"],
                    _WHY.get(one["why"], one["why"]),
                    one["refused"],
                    span(now - one["since"]),
                    one["id"],
                )
                for one in sources
            ],
        )
    else:
        click.echo(f"no source is penalised; {answer['watched']} are being watched")
    if frozen:
        click.echo()
        table(
            ("frozen key", "person", "ends in", "for", "id"),
            [
                (one["fingerprint"], one["person"], span(one["until"] - now), span(now - one["since"]), one["id"])
                for one in frozen
            ],
        )


@click.command()
@click.argument("names", metavar="[SOURCE|KEY|PERSON]...", nargs=-1)
@click.option("--all", "everybody", is_flag=True, help="Forgive all of them.")
@click.option("--reason", default="", help="Why; it stands in the audit log.")
@click.pass_obj
def unban(ctx: Context, names: tuple[str, ...], everybody: bool, reason: str) -> None:
    """Forgive sources that are penalised, and thaw frozen keys.

    SOURCE is an address, or what `relayctl bans` shows; what it gathered is forgotten, new failures count anew. KEY is
    a fingerprint. Exit status 1 if one of them is not banned.

    \b
    Example:
      relayctl unban 203.0.113.7 --reason "the backup job has its key again"
    """
    from relay.people import audit_actor
    from relay.serve import control_client

    if everybody == bool(names):
        raise click.UsageError("say which, or --all")
    wanted = [_canonical(text) for text in names]
    question = {"do": "unban", "wanted": wanted, "all": everybody, "by": audit_actor.fields(why=reason)}
    answer = _answer(control_client.call(ctx.site(announce=True).state, question, timeout=10))
    for one in answer["lifted"]:
        click.echo(f"forgiven: {one}")
    for one in answer["missing"]:
        click.echo(f"{escape(one, 80)} is not banned{_near(one, answer['known'])}", err=True)
    if everybody and not answer["lifted"]:
        click.echo("nobody is banned")
    raise SystemExit(1 if answer["missing"] else 0)


def span(seconds: float) -> str:
    """A length of time for people: 42 s, 12 min, 3 h."""
    for size, word in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {word}"
    return f"{max(seconds, 0):.0f} s"


def _canonical(text: str) -> str:
    """A source as the relay counts it; anything else as it is (a fingerprint, a person)."""
    from relay.serve.supervisor.admission.preauth_slots import source_of

    try:
        return source_of(text.removesuffix("/64") if ":" in text else text)
    except ValueError:
        return text


def _near(source: str, left: list[str]) -> str:
    import difflib

    near = difflib.get_close_matches(source, left, n=1)
    return f"; did you mean {near[0]}?" if near else "; relayctl bans lists who is"


def _answer(answer: dict[str, Any]) -> dict[str, Any]:
    if not answer.get("ok"):
        raise RelayError(str(answer.get("problem", "the relay refused")), "is it of the same version as relayctl?")
    return answer

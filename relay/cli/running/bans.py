"""`relayctl bans` and `unban`: penalised sources and frozen keys."""

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

    A source is an IPv4 address or an IPv6 /64. Each of its connections that ends without a log-in adds seconds; above a
    threshold the source is penalised and may only try one connection at a time. A source with a recent log-in is never
    penalised. `penalties:` in relay.yaml sets the seconds and the exempt sources. Keys are frozen
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
@click.option("--all", "everybody", is_flag=True, help="Lift all of them.")
@click.option("--reason", default="", help="The reason, for the audit log.")
@click.pass_obj
def unban(ctx: Context, names: tuple[str, ...], everybody: bool, reason: str) -> None:
    """Lift penalties of sources, and unfreeze keys.

    SOURCE is an address, or a source as `relayctl bans` shows it; its penalty points are cleared, new failures count
    again. KEY is a fingerprint. Exit status 1 if one of them is not banned.

    \b
    Example:
      relayctl unban 203.0.113.7 --reason "the backup job has its key again"
    """
    from relay.people import audit_actor
    from relay.serve import control_client

    if everybody == bool(names):
        raise click.UsageError("name sources or keys, or use --all")
    wanted = [_canonical(text) for text in names]
    question = {"do": "unban", "wanted": wanted, "all": everybody, "by": audit_actor.fields(why=reason)}
    answer = _answer(control_client.call(ctx.site(announce=True).state, question, timeout=10))
    for one in answer["lifted"]:
        click.echo(f"forgiven: {one}")
    for one in answer["missing"]:
        click.echo(f"{escape(one, 80)} is not banned{_near(one, answer['known'])}", err=True)
    if everybody and not answer["lifted"]:
        click.echo("nothing is banned")
    raise SystemExit(1 if answer["missing"] else 0)


def span(seconds: float) -> str:
    """A span of time in one unit: 42 s, 12 min, 3 h."""
    for size, word in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {word}"
    return f"{max(seconds, 0):.0f} s"


def _canonical(text: str) -> str:
    """A source as the relay counts it; anything else as it is (a fingerprint, a person)."""
    from relay.core.source_prefix import source_of

    try:
        return source_of(text.removesuffix("/64") if ":" in text else text)
    except ValueError:
        return text


def _near(source: str, left: list[str]) -> str:
    import difflib

    near = difflib.get_close_matches(source, left, n=1)
    return f"; did you mean {near[0]}?" if near else "; see: relayctl bans"


def _answer(answer: dict[str, Any]) -> dict[str, Any]:
    if not answer.get("ok"):
        raise RelayError(str(answer.get("problem", "the relay refused")), "is it of the same version as relayctl?")
    return answer

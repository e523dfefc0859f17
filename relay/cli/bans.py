"""`relayctl bans` and `unban`: sources that have earned a slower welcome, and how to forgive them."""

import time
from typing import Any

import click

from relay.cli import Context
from relay.cli.output import json_option, print_json, table
from relay.errors import InputRejected, RelayError

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
    """List the sources that are penalised now.

    A source is an IPv4 address or an IPv6 /64. Each connection that ends there without a proven key adds seconds, and
    from a sum on the source is penalised: one connection at a time may still try. A source where a key was lately
    proven never is. `penalties:` in relay.yaml says how many seconds, and whom nothing is held against.

    \b
    Example:
      relayctl bans
    """
    from relay.serve import control

    answer = _answer(control.call(ctx.site().state, {"do": "bans"}, timeout=10))
    found: list[dict[str, Any]] = answer["bans"]
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo(f"no source is penalised; {answer['watched']} are being watched")
        return
    now = time.time()
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
            for one in found
        ],
    )


@click.command()
@click.argument("sources", metavar="[SOURCE]...", nargs=-1)
@click.option("--all", "everybody", is_flag=True, help="Forgive all of them.")
@click.option("--reason", default="", help="Why; it stands in the audit log.")
@click.pass_obj
def unban(ctx: Context, sources: tuple[str, ...], everybody: bool, reason: str) -> None:
    """Forgive sources that are penalised.

    SOURCE is an address, or what `relayctl bans` shows. What it gathered is forgotten; new failures count anew.
    Exit status 1 if one of them was not penalised.

    \b
    Example:
      relayctl unban 203.0.113.7 --reason "the backup job has its key again"
    """
    from relay.people import doer
    from relay.serve import control

    if everybody == bool(sources):
        raise click.UsageError("name sources, or --all")
    wanted = [_source(text) for text in sources]
    question = {"do": "unban", "sources": wanted, "all": everybody, "by": doer.fields(why=reason)}
    answer = _answer(control.call(ctx.site(announce=True).state, question, timeout=10))
    lifted = set(answer["lifted"])
    for source in answer["lifted"]:
        click.echo(f"forgiven: {source}")
    missing = [source for source in wanted if source not in lifted]
    for source in missing:
        click.echo(f"{source} is not penalised{_near(source, answer['left'])}", err=True)
    if everybody and not lifted:
        click.echo("no source is penalised")
    raise SystemExit(1 if missing else 0)


def span(seconds: float) -> str:
    """A length of time for people: 42 s, 12 min, 3 h."""
    for size, word in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {word}"
    return f"{max(seconds, 0):.0f} s"


def _source(text: str) -> str:
    from relay.serve.admission import source_of

    try:
        return source_of(text.removesuffix("/64") if ":" in text else text)
    except ValueError:
        what = f"{text[:60]!r} is not an address"
        raise InputRejected(what, "give one as `relayctl bans` shows it: 203.0.113.7 or 2001:db8::/64") from None


def _near(source: str, left: list[str]) -> str:
    import difflib

    near = difflib.get_close_matches(source, left, n=1)
    return f"; did you mean {near[0]}?" if near else "; relayctl bans lists who is"


def _answer(answer: dict[str, Any]) -> dict[str, Any]:
    if not answer.get("ok"):
        raise RelayError(str(answer.get("problem", "the relay refused")), "is it of the same version as relayctl?")
    return answer

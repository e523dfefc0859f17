"""The filter options of `audit search` and `tail`, turned into a query; the site's time zone."""

import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, tzinfo
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import click

from relay.core.audit.audit_query import AuditQuery
from relay.core.audit.event import NAMES
from relay.core.escape import escape
from relay.core.policy.model import Network
from relay.errors import InputRejected
from relay.review.time_expression import instant

_Command = TypeVar("_Command", bound=Callable[..., Any])
_TIMEZONE = re.compile(r"""^timezone:[ \t]+(["']?)([A-Za-z0-9._/+-]+)\1[ \t]*(?:#.*)?$""", re.MULTILINE)


def filters(command: _Command) -> _Command:
    """The options that search and tail share; the command is given them as keywords."""
    for option in reversed(
        (
            click.option("--person", default="", metavar="NAME", help="Of this person."),
            click.option("--key", default="", metavar="SHA256:...", help="By this key, or keys that begin with it."),
            click.option("--target", default="", metavar="TARGET", help="Name, address, or either with :PORT."),
            click.option("--from", "client", default="", metavar="CIDR", help="From clients in this network."),
            click.option("--to", default="", metavar="CIDR", help="To addresses in this network."),
            click.option("--since", default="", metavar="TIME", help="7d, 2h, yesterday, 2026-10-01T08:00 ..."),
            click.option("--until", default="", metavar="TIME", help="Before this time; a day is included."),
            click.option("--verdict", type=click.Choice(["allowed", "denied"]), help="Only allowed or only denied."),
            click.option("--event", default="", metavar="NAME", help="Only this event, like forward.denied."),
            click.option("--text", default="", metavar="TEXT", help="With this text, upper or lower case."),
        )
    ):
        command = option(command)
    return command


def query_from_options(given: Mapping[str, str | None], zone: tzinfo) -> AuditQuery:
    """The query of these options; times without an offset are in `zone`. Raises click's UsageError."""
    asked = {key: value or "" for key, value in given.items()}
    for key, value in asked.items():
        if not value.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise click.UsageError(f"--{key} is not UTF-8; no row of the log has such a text")
    now = time.time_ns() // 1000
    if asked["event"] and asked["event"] not in NAMES:
        import difflib

        near = difflib.get_close_matches(asked["event"], NAMES, n=1)
        raise click.BadParameter(
            f"no event {given['event']!r}" + (f"; did you mean {near[0]!r}?" if near else ""), param_hint="--event"
        )
    host, address, port = _target(asked["target"])
    try:
        since = instant(asked["since"], now, zone) if asked["since"] else None
        until = instant(asked["until"], now, zone, end=True) if asked["until"] else None
    except InputRejected as error:
        raise click.UsageError(f"{error.what}; {error.hint}") from None
    return AuditQuery(
        person=asked["person"],
        fingerprint=asked["key"],
        host=host,
        address=address,
        port=port,
        client=_network(asked["client"], "--from"),
        to=_network(asked["to"], "--to"),
        since=since,
        until=until,
        verdict=asked["verdict"],
        name=asked["event"],
        text=asked["text"],
    )


def _target(text: str) -> tuple[str, Any, int | None]:
    """Name, address and port of `--target`."""
    if not text:
        return "", None, None
    host, colon, digits = text.rpartition(":")
    bare = text.strip("[]")
    port: int | None = None
    if colon and digits.isascii() and digits.isdigit() and (":" not in host or host.endswith("]")):
        bare, port = host.strip("[]"), int(digits)
        if port > 65535:
            raise click.BadParameter(f"{port} is not a port", param_hint="--target")
    try:
        address = ip_address(bare)
    except ValueError:
        return bare.lower(), None, port
    return "", getattr(address, "ipv4_mapped", None) or address, port


def _network(text: str, option: str) -> Network | None:
    if not text:
        return None
    try:
        return ip_network(text, strict=False)
    except ValueError:
        raise click.BadParameter(
            f"{text[:60]!r} is not an address or network such as 203.0.113.0/24", param_hint=option
        ) from None


def zone_of(site: Path) -> tzinfo:
    """The site's time zone, found even in a broken site; UTC, with a message, when it cannot be read."""
    try:
        text = (site / "relay.yaml").read_text("utf-8", "replace")[: 1 << 20]
    except FileNotFoundError:
        return UTC
    except OSError as error:
        click.echo(f"times are UTC: the site's time zone cannot be read: {error.strerror}", err=True)
        return UTC
    found = _TIMEZONE.search(text)
    try:
        if found:
            return ZoneInfo(found[2]) if found[2] != "UTC" else UTC
        if re.search(r"^[\"']?timezone", text, re.MULTILINE):
            raise ValueError
    except (ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError: see below
        click.echo("times are UTC: the site's time zone cannot be read; relayctl check says why", err=True)
    except KeyError:
        click.echo(f"times are UTC: there is no time zone {escape(found[2]) if found else ''}", err=True)
    return UTC

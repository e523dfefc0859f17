"""`relayctl net verify`: the path into each zone, leg by leg, and this machine's guard."""

import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from relay.cli import Context
from relay.cli.output import json_option, print_json

if TYPE_CHECKING:
    from relay.cli.net.zones import PlannedZones
    from relay.core.policy.inventory import Inventory
    from relay.core.policy.model import Host
    from relay.net.diagnose.path_check import PathCheckRequest
    from relay.net.diagnose.path_verdict import Leg

_COLOURS = {"ok": "green", "warning": "yellow", "fault": "red", "skipped": "blue"}
_WITH_PORT = re.compile(r"(?:[^:]+|\[.*\]):[0-9]+")


@click.command()
@click.argument("places", nargs=-1, metavar="[ZONE|HOST[:PORT]]...")
@json_option
@click.pass_obj
def verify(ctx: Context, places: tuple[str, ...], as_json: bool) -> None:
    """Walk the way into each zone, up to the first broken link.

    Looks at the interface, the route and rp_filter; asks the gateway whether it is there and forwards; connects to a
    host's SSH port once and waits for its greeting; tries large packets. At the end it checks that what `net apply`
    makes is in place: without it other programs' packets for a zone may leave by another interface. Changes nothing.
    A ZONE (all of them, when none is named) stands for its first host. Root sees more. Exit status 1 at a fault, whose
    cure is printed below it.

    \b
    Example:
      sudo relayctl net verify
      sudo relayctl net verify office remote.plant 192.168.1.50
    """
    from relay.cli.net import zones
    from relay.net.diagnose import guard_check, path_check

    known = zones.read_zones(ctx.site())
    for note in known.notes:
        click.echo(f"relayctl: {note}", err=True)
    faulty, rows = False, []
    for request in path_requests(known, places):
        if not as_json:
            click.echo(click.style(heading(request), bold=True))
        with_progress = _show_progress if sys.stderr.isatty() and not as_json else path_check.no_progress
        for leg in path_check.path_legs(request, with_progress):
            faulty = faulty or leg.broken
            if as_json:
                rows.append(as_row(request.zone.name, leg))
            else:
                _clear_progress(with_progress)
                _show(leg)
        _clear_progress(with_progress)
    guard = guard_check.check_guard(known.plan)
    if guard and not as_json:
        click.echo(click.style("this machine", bold=True))
    for leg in guard:
        faulty = faulty or leg.broken
        if as_json:
            rows.append(as_row("", leg))
        else:
            _show(leg)
    if as_json:
        print_json(rows)
    raise SystemExit(1 if faulty else 0)


def path_requests(known: "PlannedZones", places: tuple[str, ...] = ()) -> "list[PathCheckRequest]":
    """The path checks for the given places: every zone when none is given.

    Raises click.BadParameter for a place that is not there, RelayError for a policy without zones.
    """
    from relay.core.policy.inventory import Inventory
    from relay.errors import RelayError
    from relay.net.diagnose.path_check import PathCheckRequest

    inventory = Inventory()
    overlays = {overlay.zone.name: overlay for overlay in known.plan.overlays}
    for overlay in overlays.values():
        inventory.add_zone(overlay.zone)
    for host in known.hosts:
        inventory.add_host(host)
    if not overlays:
        raise RelayError("the policy has no zone", "write one under `zones:` in policies/")
    wanted: dict[str, dict[Host, None]] = {}
    for place in places or tuple(overlays):
        first = known.host(place) if place in overlays else _host(inventory, place)
        hosts = wanted.setdefault(place if first is None else first.zone, {})
        if first is not None:
            hosts[first] = None
    return [PathCheckRequest(overlays[name], tuple(hosts), known.plan) for name, hosts in wanted.items()]


def heading(request: "PathCheckRequest") -> str:
    """The zone in one line, above its legs."""
    from relay.core.escape import escape

    zone = request.zone
    networks = ", ".join(map(str, zone.networks[:4])) + (" ..." if len(zone.networks) > 4 else "")
    via = f" via {zone.gateway}" if zone.gateway else ""
    return f"{zone.name}: {networks}{via} by {escape(zone.interface, 40)}"


def as_row(zone: str, leg: "Leg") -> dict[str, Any]:
    """A leg for programs."""
    return {
        "zone": zone,
        "host": leg.host,
        "name": leg.name,
        "state": leg.state,
        "what": leg.what,
        "cure": leg.cure,
        "figures": dict(leg.figures),
    }


def _host(inventory: "Inventory", place: str) -> "Host":
    import difflib

    from relay.core.policy import target
    from relay.core.policy.model import Decision, Host
    from relay.errors import InputRejected

    try:
        with_port = bool(_WITH_PORT.fullmatch(place))
        asked = target.parse_spec(place) if with_port else target.parse_target(place, 22)
    except InputRejected as error:
        raise click.BadParameter(f"{error.what}; {error.hint}", param_hint="'ZONE|HOST'") from None
    found = inventory.resolve(asked)
    if isinstance(found, Decision):
        near = difflib.get_close_matches(place, [*inventory.zones, *inventory.hosts], n=1)
        cure = (
            f"; name one of {', '.join(found.choices)}"
            if found.choices
            else f"; did you mean {near[0]}?"
            if near
            else ""
        )
        raise click.BadParameter(f"{found.detail}{cure}", param_hint="'ZONE|HOST'")
    known = [host for host in inventory.hosts.values() if (host.zone, host.address) == (found.zone, found.address)]
    named = next((host for host in known if asked.name in {host.name, f"{host.name}.{host.zone}"}), None)
    host = named or (known[0] if known else Host(str(found.address), found.zone, found.address))
    return Host(host.name, host.zone, host.address, host.user, found.port) if with_port else host


def _show(leg: "Leg") -> None:
    from relay.core.escape import escape

    what = escape(leg.what, 400)
    click.echo(f"  {click.style(f'{leg.state:8}', fg=_COLOURS[leg.state])} {leg.name:12} {what}")
    if leg.cure:
        click.echo(f"           {'':12} -> {escape(leg.cure, 400)}")


def _show_progress(what: str) -> None:
    click.echo(f"\r\x1b[K  ...      waiting for {what}", nl=False, err=True)


def _clear_progress(progress: Callable[[str], None]) -> None:
    if progress is _show_progress:
        click.echo("\r\x1b[K", nl=False, err=True)

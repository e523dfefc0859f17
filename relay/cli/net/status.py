"""`relayctl net status`: each zone as it is now, with a diagnosis and its cure."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import click

from relay.cli import Context
from relay.cli.output import json_option, print_json, waiting

if TYPE_CHECKING:
    from relay.cli.net.zones import PlannedZones
    from relay.core.network_plan import Overlay
    from relay.net.diagnose.diagnosis import Diagnosis
    from relay.net.diagnose.observation import Observation, Role

_MOST_AT_ONCE = 16  # zones observed in parallel: most of the time they wait for an echo


@click.command()
@click.argument("zone", nargs=-1)
@click.option("--watch", is_flag=True, help="Look again every 2 seconds, until Ctrl-C.")
@click.option("--role", type=click.Choice(["relay", "gateway"]), default="relay", show_default=True,
              help="Which machine of the plan this one is.")  # fmt: skip
@json_option
@click.pass_obj
def status(ctx: Context, zone: tuple[str, ...], watch: bool, role: str, as_json: bool) -> None:
    """Show each zone: interface, route, gateway, and the overlay's own view.

    Pings the gateway and the first host of each zone, by the zone's interface only. As root it also asks ZeroTier
    about the node, its network, the routes that the controller sent, and the way to the gateway. Last comes what is
    wrong and the command that cures it. Changes nothing. Exit status 1 when a zone is not well.

    \b
    Example:
      sudo relayctl net status
      sudo relayctl net status office --watch
      relayctl --site . net status --json
    """
    from relay.cli.net import zones
    from relay.cli.net.watch import watch_zones
    from relay.cli.net.zone_text import zone_block, zone_json
    from relay.net.diagnose.observation import Role

    known = zones.read_zones(ctx.site())
    for note in known.notes:
        click.echo(f"{click.style('warning', fg='yellow')}: {note}", err=True)
    chosen = known.overlays(*zone)
    if not chosen:
        click.echo("the policy has no zones yet: define one under `zones:` in policies/", err=True)
        return
    if watch:
        raise SystemExit(watch_zones(known, chosen, Role(role), as_json=as_json))
    with waiting(f"answers from {', '.join(overlay.zone.name for overlay in chosen)}"):  # all at once: 6 s where silent
        observed = list(observe_zones(known, chosen, Role(role)))
    if as_json:
        print_json([zone_json(overlay, seen, found) for overlay, seen, found in observed])
        raise SystemExit(_status(found for _, _, found in observed))
    said: list[Sequence[Diagnosis]] = []
    for overlay, seen, found in observed:
        click.echo(("\n" if said else "") + "\n".join(zone_block(overlay, seen, found, Role(role))))
        said.append(found)
    raise SystemExit(_status(said))


def _status(all_found: "Iterable[Sequence[Diagnosis]]") -> int:
    return 1 if any(found[0].state == "fault" for found in all_found) else 0


def observe_zones(
    zones: "PlannedZones", chosen: "Sequence[Overlay]", role: "Role"
) -> "Iterator[tuple[Overlay, Observation, tuple[Diagnosis, ...]]]":
    """These zones as they are now, observed in parallel; blocks for 6 s at most.

    Raises RelayError off Linux.
    """
    from concurrent.futures import ThreadPoolExecutor

    from relay.net.diagnose.diagnosis import diagnose
    from relay.net.diagnose.observe import ZoneObserver
    from relay.net.kernel import netlink

    def observe_one(overlay: "Overlay") -> "Observation":
        try:
            return ZoneObserver(overlay, zones.host(overlay.zone.name), role=role).observe()
        finally:
            netlink.close_thread_socket()

    with ThreadPoolExecutor(_MOST_AT_ONCE) as pool:
        for overlay, seen in zip(chosen, pool.map(observe_one, chosen), strict=True):
            yield overlay, seen, diagnose(seen, overlay, role=role, plan=zones.plan)

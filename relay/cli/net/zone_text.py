"""An observed zone as text for people and as JSON for programs.

Figures that always change (milliseconds, ages) can be left out: then equal lines mean that nothing has changed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import click

from relay.core.escape import escape
from relay.core.network_plan import Overlay
from relay.net.diagnose.diagnosis import Diagnosis
from relay.net.diagnose.observation import Observation, PortState, Reachability, Role, peer_of
from relay.net.diagnose.zerotier_join import peer_words
from relay.net.kernel.route_guard import Route
from relay.net.probe.ping import EchoKind
from relay.net.zerotier.node_view import JoinedNetwork, ManagedRoute, NodeView

Line = tuple[str, str]  # label, text

_WORDS = {"ok": "well", "warning": "well, but", "fault": "not well"}
_COLOURS = {"ok": "green", "warning": "yellow", "fault": "red"}


def zone_block(overlay: Overlay, seen: Observation, found: Sequence[Diagnosis], role: Role) -> list[str]:
    """One zone's lines: heading, facts, diagnoses, each with its cure below it."""
    networks = ", ".join(map(str, overlay.zone.networks[:4]))
    state = found[0].state
    word = click.style(_WORDS[state], fg=_COLOURS[state], bold=True)
    lines = [f"{click.style(overlay.zone.name, bold=True)}  {word}  {networks}"]
    lines += [f"  {click.style(f'{label:11}', dim=True)}{text}" for label, text in facts(overlay, seen, role)]
    for finding in found:
        lines.append(f"  {click.style(f'{finding.state:11}', fg=_COLOURS[finding.state])}{escape(finding.what, 500)}")
        if finding.cure:
            lines.append(f"  {'':11}-> {click.style(escape(finding.cure, 500), bold=True)}")
    return lines


def facts(overlay: Overlay, seen: Observation, role: Role, *, figures: bool = True) -> Iterator[Line]:
    """The observed facts as labelled lines, escaped."""
    yield "interface", _interface(overlay, seen)
    if role is Role.GATEWAY:
        yield "lan", _link(seen, overlay.lan_interface or seen.lan)
        if seen.forwarding is not None:
            yield "forwarding", "on" if seen.forwarding else "off"
    else:
        yield from (("route", text) for text in _routes(overlay, seen) or ["none into the zone"])
    if seen.far is not None:
        yield "gateway" if role is Role.RELAY else "relay", _reach(seen.far, figures)
    if seen.target is not None:
        yield "target", _reach(seen.target, figures)
    if seen.zerotier is not None:
        yield from _zerotier(overlay, seen, seen.zerotier, figures)
    yield from (("not seen", escape(text)) for text in seen.left_out)


def zone_json(overlay: Overlay, seen: Observation, found: tuple[Diagnosis, ...]) -> dict[str, Any]:
    """The same for programs. Times are seconds; what was not seen is null."""
    zone, view, joined = overlay.zone, seen.zerotier, seen.joined(overlay)
    link = seen.link(seen.interface)
    return {
        "zone": zone.name,
        "state": found[0].state,
        "diagnoses": [asdict(one) for one in found],
        "networks": [str(network) for network in zone.networks],
        "interface": None if link is None else link.name,
        "up": None if link is None else link.up,
        "addresses": [] if link is None else [str(address) for address in link.addresses],
        "obstacle": seen.guard.reason,
        "routes": [_route(route) for route in _zone_routes(overlay, seen)],
        "other_end": _reach_json(seen.far),
        "target": _reach_json(seen.target),
        "zerotier": None if view is None else _view_json(view, joined, seen),
        "left_out": list(seen.left_out),
    }


def _interface(overlay: Overlay, seen: Observation) -> str:
    return _link(seen, seen.interface) if seen.interface else f"none for '{escape(overlay.zone.interface, 40)}'"


def _link(seen: Observation, name: str) -> str:
    link = seen.link(name)
    if link is None:
        return f"{escape(name, 40) or 'none'} is not there"
    own = [address for address in link.addresses if not address.is_link_local] or link.addresses
    addresses = ", ".join(map(str, own)) or "no address"
    return f"{escape(link.name, 40)}, {'up' if link.up else 'down'}, {addresses}"


def _zone_routes(overlay: Overlay, seen: Observation) -> list[Route]:
    return [route for route in seen.routes if any(
        route.network.version == network.version and route.network.overlaps(network)
        for network in overlay.zone.networks)]  # fmt: skip


def _routes(overlay: Overlay, seen: Observation) -> list[str]:
    return [_route(route) for route in _zone_routes(overlay, seen)]


def _route(route: Route) -> str:
    via = f" via {route.gateway}" if route.gateway else ""
    return f"{route.network}{via} dev {escape(route.interface, 40)}" + (
        f" metric {route.metric}" if route.metric else ""
    )


def _reach(reach: Reachability, figures: bool) -> str:
    subject = f"{escape(reach.name, 40)} {reach.address}" if reach.name else str(reach.address)
    echo = reach.echo
    if echo is not None and echo.kind is EchoKind.REPLY:
        return f"{subject} answers" + (f" in {milliseconds(echo.seconds)}" if figures else "")
    said = {PortState.OPEN: "answers", PortState.REFUSED: "refuses"}.get(reach.port_state)
    if said:
        return f"{subject}: {'' if echo is None else 'pings are silent, '}port {reach.port} {said}"
    if echo is not None and echo.kind is EchoKind.UNREACHABLE:
        return f"{subject}: {echo.detail}, says {echo.sender or 'this machine'}"
    if echo is not None:
        return f"{subject} does not answer"
    if reach.neighbour is not None:
        return f"{subject} was not asked; the kernel's entry is {reach.neighbour.state}"
    return f"{subject} was not asked"


def _zerotier(overlay: Overlay, seen: Observation, view: NodeView, figures: bool) -> Iterator[Line]:
    version = f"{view.version}, " if view.version else ""
    online = {True: "online", False: "offline", None: "not asked"}[view.online]
    if not view.answers:
        known = f" ({version}{online})" if view.online is not None else ""
        yield "zerotier", f"{view.status.replace('-', ' ')}{known}"
        return
    yield "zerotier", f"{version}node {view.node} {online}"
    joined = seen.joined(overlay)
    if joined is None:
        yield "network", f"{overlay.network_id or 'none'} is not joined"
    else:
        assigned = ", ".join(map(str, joined.assigned)) or "no address"
        name = f" {escape(joined.name, 40)}" if joined.name else ""
        yield (
            "network",
            f"{joined.id}{name} {escape(joined.status, 40)}, {assigned}"
            + ("" if joined.allow_managed else ", allowManaged=0"),
        )
        for managed in joined.routes:
            way = f"{managed.target}{f' via {managed.via}' if managed.via else ''}"
            yield "managed", f"{way}{'' if in_kernel(managed, joined, seen) else '  (not in the kernel)'}"
    peer = peer_of(seen, joined)
    if peer is not None:
        yield "peer", peer_words(peer, figures=figures)
    moons = ", ".join(f"{moon.id}{' (waiting)' if moon.waiting else ''}" for moon in view.moons)
    yield "moons", moons or "none"


def in_kernel(managed: ManagedRoute, joined: JoinedNetwork, seen: Observation) -> bool:
    """Whether the kernel has the route that the controller sent. The way to this machine's own LAN needs none."""
    own = (address for link in seen.interfaces if link.name != joined.interface for address in link.addresses)
    return any(
        route.network == managed.target and route.gateway == managed.via and route.interface == joined.interface
        for route in seen.routes
    ) or any(address in managed.target for address in own)


def milliseconds(seconds: float) -> str:
    """0.3 ms, 8.1 ms, 120 ms."""
    return f"{seconds * 1000:.1f} ms" if seconds < 0.1 else f"{seconds * 1000:.0f} ms"


def _reach_json(reach: Reachability | None) -> dict[str, Any] | None:
    if reach is None:
        return None
    echo = reach.echo
    return {
        "address": str(reach.address),
        "name": reach.name or None,
        "answers": reach.answers if reach.asked else None,
        "echo": None if echo is None else echo.kind,
        "seconds": None if echo is None or echo.kind is not EchoKind.REPLY else round(echo.seconds, 6),
        "said_by": None if echo is None or echo.sender is None else str(echo.sender),
        "detail": (echo.detail if echo is not None else "") or None,
        "port": reach.port or None,
        "door": None if reach.port_state is PortState.NOT_TRIED else reach.port_state,
        "neighbour": None if reach.neighbour is None else reach.neighbour.state,
    }


def _view_json(view: NodeView, joined: JoinedNetwork | None, seen: Observation) -> dict[str, Any]:
    peer = peer_of(seen, joined)
    return {
        "standing": view.status,
        "detail": view.detail or None,
        "node": view.node or None,
        "version": view.version or None,
        "online": view.online,
        "network": None
        if joined is None
        else {
            "id": joined.id,
            "name": joined.name,
            "status": joined.status,
            "interface": joined.interface,
            "assigned": [str(assigned) for assigned in joined.assigned],
            "allow_managed": joined.allow_managed,
            "managed_routes": [
                {
                    "target": str(route.target),
                    "via": None if route.via is None else str(route.via),
                    "in_kernel": in_kernel(route, joined, seen),
                }
                for route in joined.routes
            ],
        },
        "peer": None
        if peer is None
        else {
            "node": peer.node,
            "role": peer.role,
            "direct": peer.path is not None,
            "path": None if peer.path is None else peer.path.endpoint,
            "latency": peer.latency,
            "heard": peer.heard,
        },
        "moons": [asdict(moon) for moon in view.moons],
    }

"""Conflicts and risks of a plan, as sentences for people. Pure."""

from collections.abc import Iterable
from ipaddress import ip_network
from itertools import combinations

from relay.core.network_plan import NetworkPlan, Overlay
from relay.core.policy.model import Network
from relay.errors import RelayError
from relay.net.kernel.route_guard import Route
from relay.net.plan.prefixes import literal, prefixes

# Docker's default pools: the bridge has 172.17.0.0/16, each network that a person makes takes the next
_DOCKER = tuple(ip_network(f"172.{number}.0.0/16") for number in range(17, 32))
# what people's routers at home have out of the box
_HOMES = tuple(
    ip_network(f"{text}.0/24")
    for text in (
        *("192.168.0", "192.168.1", "192.168.2", "192.168.3", "192.168.8", "192.168.31", "192.168.50", "192.168.178"),
        "10.0.0",
    )
)


def require_none(plan: NetworkPlan) -> None:
    """Raises RelayError for a plan that cannot be made."""
    if plan.moon and plan.public is None:
        raise RelayError("a Moon needs the relay host's public address", "network.yaml: relay: { public: 1.1.1.1 }")


def everywhere(overlays: Iterable[Overlay]) -> list[str]:
    """Warnings that concern every machine of these overlays."""
    out = []
    for overlay in overlays:
        taken = overlay.network and next((pool for pool in _DOCKER if pool.overlaps(overlay.network)), None)
        if taken:
            out.append(
                f"the overlay's {overlay.network} is in {taken}, which Docker gives to the networks it makes: on a "
                "machine with Docker set `default-address-pools` in /etc/docker/daemon.json to others first"
            )
    return out


def on_relay(plan: NetworkPlan, method: int) -> list[str]:
    """Warnings for the relay host."""
    out = everywhere(plan.overlays)
    for prefix in prefixes(overlay.zone for overlay in plan.overlays):
        here = [overlay for overlay in plan.overlays if prefix.network in overlay.zone.networks]
        if len(here) < 2:
            continue
        names = " and ".join(overlay.zone.name for overlay in here)
        out.append(
            f"{names} both have {prefix.network}: with rp_filter=1 nothing comes back from the second one, so `up` "
            "sets 2 on their interfaces; type remote.ZONE for a host"
        )
        if sum(overlay.managed and bool(overlay.network_id) for overlay in here) > 1:
            out.append(
                f"ZeroTier gives the routes of {names} to {prefix.network} one metric, so only one may be there: "
                "write `route: relay` for one of them in network.yaml"
            )
    for one, other in combinations(plan.overlays, 2):
        for inner, outer in ((one, other), (other, one)):
            for network in inner.zone.networks:
                around = [wide for wide in outer.zone.networks if _inside(network, wide) and network != wide]
                if around:
                    out.append(f"{network} of {inner.zone.name} is a part of {around[0]} of {outer.zone.name}")
    return [*out, *(risk(overlay) for overlay in plan.overlays if method == 2)]


def on_client(overlay: Overlay) -> list[str]:
    """Warnings for a client of method 2."""
    out = everywhere([overlay])
    for network in overlay.zone.networks:
        if any(home.overlaps(network) for home in _HOMES):
            out.append(
                f"{network} is many people's network at home too: there the route of method 2 would take the way to "
                "their own printer and router, so the script stops; method 1 (ssh -J relay) has no such clash"
            )
    return [*out, risk(overlay)]


def risk(overlay: Overlay) -> str:
    """The risk of method 2, as a sentence."""
    return (
        f"method 2 opens every port of every host in {', '.join(map(str, overlay.zone.networks))} to its members: no "
        "key, no rule and no audit row of the relay stands between; for administrators of the network only"
    )


def with_routes(plan: NetworkPlan, routes: Iterable[Route]) -> list[str]:
    """Conflicts of the plan with this machine's own routes, when it is the relay host itself."""
    own = [route for route in routes if route.gateway is None and route.network.prefixlen]
    out = []
    for overlay in plan.overlays:
        zone = overlay.zone
        others = [route for route in own if zone.interface != "lo" and not _is(route.interface, zone.interface)]
        out += [
            f"{route.interface} of this machine is in {route.network} itself, which overlaps {network} of the zone "
            f"{zone.name}: whatever is not bound to the zone's interface goes out there"
            for route in others
            for network in zone.networks
            if route.network.overlaps(network) and not _other_zone(plan, route)
        ]
        out += [
            f"{route.interface} of this machine has {route.network}, which overlaps the overlay's {overlay.network} "
            "(Docker takes such networks): give one of the two another"
            for route in others
            if overlay.network is not None and route.network.overlaps(overlay.network)
        ]
    return list(dict.fromkeys(out))


def _other_zone(plan: NetworkPlan, route: Route) -> bool:
    return any(_is(route.interface, overlay.zone.interface) for overlay in plan.overlays)


def _is(interface: str, pattern: str) -> bool:
    known = literal(pattern)
    return interface.startswith(known[:-1]) if known.endswith("*") else interface == known


def _inside(inner: Network, outer: Network) -> bool:
    return inner.version == outer.version and inner.prefixlen >= outer.prefixlen and inner.network_address in outer

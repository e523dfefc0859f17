"""Shell commands that set the route of a zone right, with every name in them quoted."""

from shlex import quote

from relay.core.network_plan import Overlay
from relay.core.policy.model import Address, Network
from relay.net.diagnose.observation import Observation
from relay.net.kernel.route_guard import Route

METRIC = 5000  # what ZeroTier gives its managed routes, so that its own takes the place of ours
_MOST_RIVALS = 3  # in one line for a person


def forward(version: int) -> str:
    """Let this machine forward packets of IPv4 or IPv6, until the next boot."""
    return f"sysctl -w net.{'ipv4.ip_forward' if version == 4 else 'ipv6.conf.all.forwarding'}=1"


def network_of(overlay: Overlay, address: Address) -> Network:
    """The zone's network that has the address."""
    return next((one for one in overlay.zone.networks if address in one), overlay.zone.networks[0])


def route_words(overlay: Overlay, address: Address) -> str:
    """The zone's route as words: NETWORK via GATEWAY."""
    via = f" via {overlay.zone.gateway}" if overlay.zone.gateway else ""
    return f"{network_of(overlay, address)}{via}"


def set_route(overlay: Overlay, address: Address, interface: str) -> str:
    """Set the zone's route now."""
    return f"ip route replace {route_words(overlay, address)} dev {quote(interface)} metric {METRIC}"


def right_route(seen: Observation, overlay: Overlay, interface: str) -> str:
    """Set the zone's route, and delete those on the interface that lead elsewhere and would stay."""
    replaced = network_of(overlay, seen.address), METRIC
    rivals = [
        route
        for route in seen.routes
        if route.network.prefixlen
        and seen.address in route.network
        and route.interface == interface
        and route.gateway != overlay.zone.gateway
        and (route.network, route.metric) != replaced
    ]
    deleting = list(dict.fromkeys(_delete(rival, seen.routes) for rival in rivals))
    return " && ".join([set_route(overlay, seen.address, interface), *deleting[:_MOST_RIVALS]])


def elsewhere(address: Address) -> str:
    """Find the rule, table or route that overrules the main table's, which is right."""
    ask = f"ip -{address.version}"
    return f"{ask} rule show; {ask} route show table all match {address}  # remove what leads elsewhere or forbids it"


def is_set(seen: Observation, overlay: Overlay, interface: str) -> bool:
    """Whether the main table has the zone's way already, before all others on that interface."""
    fits = [one for one in seen.routes if one.interface == interface and seen.address in one.network]
    best = min(fits, key=lambda one: (-one.network.prefixlen, one.metric), default=None)
    same = [one.gateway for one in fits if best and (one.network, one.metric) == (best.network, best.metric)]
    return best is not None and best.network.prefixlen > 0 and all(one == overlay.zone.gateway for one in same)


def routed_by(seen: Observation, overlay: Overlay) -> str:
    """The interface by which the zone's route goes already, "" for none."""
    for route in seen.routes:
        if route.network in overlay.zone.networks and route.gateway == overlay.zone.gateway:
            return route.interface
    return ""


def _delete(route: Route, among: tuple[Route, ...]) -> str:
    """The command that deletes the whole route. With `via` the kernel would not find one of several next hops."""
    twins = [one for one in among if (one.network, one.metric) == (route.network, route.metric)]
    dev = "" if all(one.interface == route.interface for one in twins) else f" dev {quote(route.interface)}"
    return f"ip route del {route.network}{dev} metric {route.metric}"

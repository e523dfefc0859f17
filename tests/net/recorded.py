"""States recorded on a real ZeroTier, as observations. Echoes were not recorded and are arguments."""

import json
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

from relay.core.network_plan import NetworkPlan, Overlay
from relay.core.policy.model import Zone
from relay.net.diagnose.observation import Observation, Reachability, Role, RouteLookup
from relay.net.kernel import interfaces
from relay.net.kernel.interfaces import Interface
from relay.net.kernel.neighbours import Neighbour, NeighbourState
from relay.net.kernel.route_guard import Obstacle, Route, RouteCheck
from relay.net.probe.ping import Echo, EchoKind
from relay.net.zerotier import node_view

FOLDER = Path(__file__).parent / "fixtures" / "zerotier"
STATES = sorted(path.name.removesuffix(".json") for path in FOLDER.glob("*.json"))
NETWORK = "cf33a232e100ab01"
RELAY, GATEWAY, TARGET = ip_address("172.18.0.10"), ip_address("172.18.0.200"), ip_address("192.168.1.201")
PUBLIC = ip_address("198.51.100.10")
PATHS = ("/status", "/network", "/peer", "/moon")
REPLY, SILENT = Echo(EchoKind.REPLY, seconds=0.008), Echo()
OFF = Echo(EchoKind.UNREACHABLE, GATEWAY, 3.0, 1, detail="host unreachable")


def read(state: str) -> dict[str, Any]:
    """The whole recording."""
    recording: dict[str, Any] = json.loads((FOLDER / f"{state}.json").read_text())
    return recording


def answers(state: str) -> dict[str, tuple[int, object]]:
    """The API's answers in this state."""
    api = read(state)["zerotier_api"]
    return {path: (api[path]["status"], api[path]["body"]) for path in PATHS}


def overlay(interface: str = "zt0", network_id: str = "", **more: Any) -> Overlay:
    """The zone `office` of the network plan, with what this site knows of its overlay."""
    return Overlay(Zone("office", (ip_network("192.168.1.0/24"),), interface, GATEWAY), network_id, relay=RELAY, **more)


def plan(*overlays: Overlay, moon: bool = False) -> NetworkPlan:
    """The plan of the laboratory in which the states were recorded."""
    return NetworkPlan(overlays, PUBLIC, moon)


def observation(
    state: str, at: Overlay, *, far: Echo | None = REPLY, target: Echo | None = REPLY, reverse_path: int = 0
) -> Observation:
    """What `sight.look` would have seen in this state, had the two echoes ended like this."""
    ip = read(state)["ip"]
    role = Role(state.rpartition(".")[2])
    links = tuple(
        Interface(
            link["ifname"],
            link["ifindex"],
            {"UP", "LOWER_UP"} <= set(link["flags"]),
            tuple(ip_interface(f"{one['local']}/{one['prefixlen']}").ip for one in link["addr_info"]),
            "LOOPBACK" in link["flags"],
        )
        for link in ip["addr"]
    )
    routes = tuple(
        Route(
            ip_network(route["dst"].replace("default", "0.0.0.0/0")),
            ip_address(route["gateway"]) if "gateway" in route else None,
            route["dev"],
            route.get("metric", 0),
        )
        for route in ip["route"]
        if route.get("table") != "local" and "dev" in route
    )
    matching = interfaces.candidates(at.zone.interface, [link.name for link in links])
    interface = matching[0] if len(matching) == 1 else ""
    relay = role is Role.RELAY
    other = GATEWAY if relay else RELAY
    lan = "" if relay else "lan0"
    guard = _guard(at, matching, links, routes) if relay else RouteCheck()
    reachable = guard.ok if relay else any(link.name == lan and link.up for link in links)
    return Observation(
        guard,
        TARGET,
        links,
        interface,
        tuple(route for route in routes if route.network.prefixlen),
        _plain(ip),
        reverse_path,
        Reachability(other, "", far, _neighbour(ip, other, interface)) if interface else None,
        Reachability(TARGET, "remote", target, _neighbour(ip, TARGET, lan)) if reachable else None,
        None if relay else True,
        lan,
        node_view.parse_answers(answers(state)),
    )


def _guard(
    at: Overlay, matching: list[str], links: tuple[Interface, ...], routes: tuple[Route, ...]
) -> RouteCheck:  # fmt: skip
    if not matching:
        return RouteCheck(Obstacle.INTERFACE_MISSING, f"no interface matches {at.zone.interface!r}")
    if len(matching) > 1:
        return RouteCheck(Obstacle.INTERFACE_AMBIGUOUS, f"{at.zone.interface!r} matches {', '.join(matching)}")
    (name,) = matching
    link = next(link for link in links if link.name == name)
    if not link.up:
        return RouteCheck(Obstacle.INTERFACE_DOWN, f"{name} is set down", name, link.index)
    hops = [
        route for route in routes if route.interface == name and TARGET in route.network and route.network.prefixlen
    ]
    if not hops:
        return RouteCheck(
            Obstacle.ROUTE_MISSING, f"no route to {TARGET} by {name} (No route to host)", name, link.index
        )
    assert hops[0].gateway == at.zone.gateway
    return RouteCheck(None, "", name, link.index)


def _plain(ip: dict[str, Any]) -> RouteLookup | None:
    for found in ip.get("route-get-fibmatch") or ():
        gateway = ip_address(found["gateway"]) if "gateway" in found else None
        return RouteLookup(ip_network(found["dst"].replace("default", "0.0.0.0/0")), found["dev"], gateway)
    return None


def _neighbour(ip: dict[str, Any], address: object, interface: str) -> Neighbour | None:
    for found in ip["neigh"]:
        if found["dst"] == str(address) and found["dev"] == interface:
            return Neighbour(
                ip_address(found["dst"]), 0, NeighbourState(found["state"][0].lower()), found.get("lladdr", "")
            )
    return None

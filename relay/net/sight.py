"""What is to be seen of a zone from this machine now? Kernel, other end, one target, and the overlay's own view.

Read-only, bounded in time. Whatever is sent is bound to the zone's interface, and only after the guard said that it
goes the right way. A target's port is asked only when its ping is silent, and seldom: an sshd counts connections
without log-in (OpenSSH's PerSourcePenalties), and behind masquerade the one it would punish is the gateway.
"""

import errno
import socket
from collections.abc import Callable
from pathlib import Path

from relay.core.network import Overlay
from relay.core.rules import Address, Host
from relay.errors import InputRejected, NotPermitted
from relay.net import icmp, interfaces, neighbours, routes, shadow, zerotier
from relay.net.icmp import Echo, Kind
from relay.net.interfaces import Interface
from relay.net.joining import uses_zerotier
from relay.net.neighbours import Neighbour
from relay.net.observation import Door, Observation, Reach, Role, Way, zone_address
from relay.net.routes import Guard, Route
from relay.net.zerotier_view import Standing, View

SECONDS = 1.0  # for one echo: ten times what a path round the world takes
TRIES = 2  # the first packet after an idle time may be lost while ZeroTier looks for a path
KNOCK = 2.0  # seconds for a port to answer


def look(
    overlay: Overlay,
    host: Host | None,
    *,
    role: Role = Role.RELAY,
    node: Callable[[], View] = zerotier.look,
    knock: bool = True,
    timeout: float = SECONDS,
) -> Observation:
    """Look at one zone. `host` is the target; `knock`: whether its port may be asked when it does not echo.

    Blocks for some 6 s at most (2 x TRIES x timeout + KNOCK + the node's). Raises RelayError off Linux.
    """
    zone, address = overlay.zone, zone_address(overlay, host)
    left_out: list[str] = []
    links: tuple[Interface, ...] = ()
    table: list[Route] = []
    try:
        links, table = interfaces.interfaces(), routes.routes()
    except OSError as error:
        left_out.append(f"the kernel's tables: {error.strerror}")
    plain = _plain(address)
    if role is Role.RELAY:
        guard = routes.guard(zone.interface, address, zone.gateway)
        interface, lan, out, far = guard.interface, "", guard.interface, zone.gateway
        reachable = guard.ok and host is not None
    else:
        guard, interface, far = Guard(), _one(zone.interface, links), overlay.relay
        lan = overlay.lan_interface or _lan(overlay, links)
        out, reachable = lan, host is not None and any(link.name == lan and link.up for link in links)
    asked = Observation(guard, address, links, interface, left_out=())
    far_reach = None if far is None else _reach(far, interface, asked, left_out, timeout)
    target = None
    if reachable and host is not None:
        target = _reach(host.address, out, asked, left_out, timeout, name=host.name)
        if target is not None and knock and not target.answers:
            target = _knocked(target, out, host.port)
    elif host is None:
        left_out.append(f"a target: policies/ names no host in {zone.name}")
    return Observation(
        guard,
        address,
        links,
        interface,
        tuple(route for route in table if _concerns(route, overlay, interface)),
        plain,
        shadow.reverse_path(interface) if interface else None,
        far_reach,
        target,
        _forwarding(address) if role is Role.GATEWAY else None,
        lan,
        _node(node, overlay, interface, left_out),
        tuple(dict.fromkeys(left_out)),
    )


def _reach(
    address: Address, interface: str, seen: Observation, left_out: list[str], timeout: float, *, name: str = ""
) -> Reach | None:
    """Whether `address` echoes by `interface`; None where it would not even go there."""
    link = seen.link(interface)
    # for the other end itself any on-link route will do; what lies behind it was asked with its gateway before
    if link is None or not routes.guard(interface, address, None).ok:
        return None
    echo: Echo | None = None
    try:
        for _ in range(TRIES):
            echo = icmp.echo(address, interface=interface, timeout=timeout)
            if echo.kind is not Kind.SILENT:
                break
    except NotPermitted as error:
        left_out.append(f"pings: {error.what}; {error.hint}")
    except OSError as error:  # the interface went away meanwhile
        left_out.append(f"a ping of {address}: {error.strerror}")
    return Reach(address, name, echo, _neighbour(address, link.index))


def _knocked(reach: Reach, interface: str, port: int) -> Reach:
    """The same with what its port said."""
    door = Door.SILENT
    family = socket.AF_INET if reach.address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
            sock.settimeout(KNOCK)
            sock.connect((str(reach.address), port))
            door = Door.OPEN
    except ConnectionRefusedError:
        door = Door.REFUSED
    except TimeoutError:
        door = Door.SILENT
    except OSError as error:
        door = Door.UNREACHABLE if error.errno in {errno.EHOSTUNREACH, errno.ENETUNREACH} else Door.SILENT
    return Reach(reach.address, reach.name, reach.echo, reach.neighbour, port, door)


def _node(node: Callable[[], View], overlay: Overlay, interface: str, left_out: list[str]) -> View | None:
    """ZeroTier's view where the zone is ZeroTier's. Asked last: who answered our echo was heard since."""
    view = node()
    if not uses_zerotier(overlay) and not any(joined.interface == interface for joined in view.networks):
        return None
    if view.standing is Standing.TOKEN_UNREADABLE:
        left_out.append(f"ZeroTier's networks and peers: {view.detail}; run it as root")
    return view


def _plain(address: Address) -> Way | None:
    try:
        entry = routes.lookup(address)
        if entry is None or not entry.hops:
            return None
        return Way(entry.network, interfaces.link(entry.hops[0].index).name, entry.hops[0].gateway)
    except OSError:
        return None


def _neighbour(address: Address, index: int) -> Neighbour | None:
    try:
        return neighbours.neighbour(address, index)
    except OSError:
        return None


def _one(pattern: str, links: tuple[Interface, ...]) -> str:
    try:
        return interfaces.match(pattern, [link.name for link in links])
    except InputRejected:
        return ""


def _lan(overlay: Overlay, links: tuple[Interface, ...]) -> str:
    """The interface with an address in the zone's network."""
    for link in links:
        if any(own in network for network in overlay.zone.networks for own in link.addresses):
            return link.name
    return ""


def _concerns(route: Route, overlay: Overlay, interface: str) -> bool:
    return route.interface == interface or any(
        route.network.overlaps(network)
        for network in overlay.zone.networks
        if route.network.prefixlen and route.network.version == network.version
    )


def _forwarding(address: Address) -> bool | None:
    path = "ipv4/ip_forward" if address.version == 4 else "ipv6/conf/all/forwarding"
    try:
        return Path("/proc/sys/net", path).read_text().strip() != "0"
    except OSError:
        return None

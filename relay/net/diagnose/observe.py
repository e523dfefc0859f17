"""Observation of a zone from this machine: kernel, other end, one target, and the overlay's own view.

Read-only and bounded in time. Every packet is bound to the zone's interface, and sent only after the guard has
confirmed the route. A target's port is tried only when its ping is silent, and at most once a minute: sshd counts
connections without a log-in (PerSourcePenalties), and behind masquerade it would penalise the gateway.
"""

import errno
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from relay.core.network_plan import Overlay
from relay.core.policy.model import Address, Host
from relay.errors import InputRejected, RelayError
from relay.net.diagnose.observation import Observation, PortState, Reachability, Role, RouteLookup, zone_address
from relay.net.diagnose.zerotier_join import uses_zerotier
from relay.net.kernel import interfaces, neighbours, netlink, route_guard, rp_filter
from relay.net.kernel.interfaces import Interface
from relay.net.kernel.neighbours import Neighbour
from relay.net.kernel.route_guard import Route, RouteCheck
from relay.net.probe import ping
from relay.net.probe.ping import Echo, EchoKind
from relay.net.zerotier import local_api
from relay.net.zerotier.node_view import ApiStatus, NodeView

SECONDS = 1.0  # for one echo: ten times what a path round the world takes
TRIES = 2  # the first packet after an idle time may be lost while ZeroTier looks for a path
PORT_SECONDS = 2.0  # seconds for a port to answer
PORT_AGAIN = 60.0  # seconds: sshd forgives a connection without log-in after one, whatever it takes as a start


class ZoneObserver:
    """Repeated observation of one zone: remembers when the target's port was last tried."""

    def __init__(
        self,
        overlay: Overlay,
        host: Host | None,
        *,
        role: Role = Role.RELAY,
        node: Callable[[], NodeView] = local_api.read_node,
        timeout: float = SECONDS,
    ) -> None:
        """`host` is the target to ask, `node` asks the overlay's own view."""
        self.overlay = overlay
        self.host = host
        self.role = role
        self._node = node
        self._timeout = timeout
        self._port_state = PortState.NOT_TRIED
        self._tried_at = 0.0  # time.monotonic

    def observe(self) -> Observation:
        """The zone as observed now. Blocks for some 6 s at most, where all are silent. Raises RelayError off Linux."""
        overlay, zone, address = self.overlay, self.overlay.zone, zone_address(self.overlay, self.host)
        left_out: list[str] = []
        links: tuple[Interface, ...] = ()
        table: list[Route] = []
        try:
            links, table = interfaces.interfaces(), route_guard.routes()
        except OSError as error:
            left_out.append(f"the kernel's tables: {error.strerror}")
        plain = _plain_route(address)
        guard, interface, far, lan, out = RouteCheck(), "", zone.gateway, "", ""
        if self.role is Role.RELAY:
            port = self.host.port if self.host is not None else 0
            guard = route_guard.guard(zone.interface, address, zone.gateway, port=port)
            interface = guard.interface
            out = interface if guard.ok else ""
        else:
            interface, far = _single_match(zone.interface, links), overlay.relay
            lan = out = overlay.lan_interface or _lan(overlay, links)
        if self.host is None:
            left_out.append(f"a target: policies/ names no host in {zone.name}")
        with ThreadPoolExecutor(2) as pool:  # side by side: silence takes TRIES seconds each
            asked = [
                pool.submit(self._ask, address, name, by, links, left_out)
                for address, name, by in (
                    (far, "", interface),
                    (None, "", "") if self.host is None else (self.host.address, self.host.name, out),
                )
            ]
        there, target = (one.result() for one in asked)
        if self.host is not None and target is not None and not target.answers:
            target = replace(target, port=self.host.port, port_state=self._port_state_of(self.host, out))
        return Observation(
            guard,
            address,
            links,
            interface,
            tuple(route for route in table if _concerns(route, overlay, interface)),
            plain,
            rp_filter.effective_mode(interface) if interface else None,
            there,
            target,
            _forwarding(address) if self.role is Role.GATEWAY else None,
            lan,
            self._overlay_view(interface, left_out),
            tuple(dict.fromkeys(left_out)),
        )

    def _ask(
        self, address: Address | None, name: str, interface: str, links: tuple[Interface, ...], left_out: list[str]
    ) -> Reachability | None:
        """Whether `address` echoes by `interface`; None where nothing would go there. For a thread of its own."""
        try:
            return None if address is None else self._reach(address, name, interface, links, left_out)
        finally:
            netlink.close_thread_socket()

    def _reach(
        self, address: Address, name: str, interface: str, links: tuple[Interface, ...], left_out: list[str]
    ) -> Reachability | None:
        link = next((link for link in links if link.name == interface), None)
        # the zone's gateway was in the guard's question; for the other end itself any route on the interface will do
        if link is None or not route_guard.guard(interface, address, None).ok:
            return None
        echo: Echo | None = None
        try:
            for _ in range(TRIES):
                echo = ping.echo(address, interface=interface, timeout=self._timeout)
                if echo.kind is not EchoKind.SILENT:
                    break
        except RelayError as error:  # ping is missing, or this user may send none
            left_out.append(f"pings: {error.what}; {error.hint}")
        except OSError as error:  # the interface went away meanwhile
            left_out.append(f"a ping of {address}: {error.strerror}")
        return Reachability(address, name, echo, _neighbour(address, link.index))

    def _port_state_of(self, host: Host, interface: str) -> PortState:
        """The state of the target's port, tried again after PORT_AGAIN seconds."""
        now = time.monotonic()
        if self._port_state is PortState.NOT_TRIED or now - self._tried_at >= PORT_AGAIN:
            self._port_state = try_port(host.address, host.port, interface)
            self._tried_at = now
        return self._port_state

    def _overlay_view(self, interface: str, left_out: list[str]) -> NodeView | None:
        """The ZeroTier node's view. Queried last, so that a peer that answered our echo was just heard."""
        view = self._node()
        if not uses_zerotier(self.overlay) and not any(
            interface and joined.interface == interface for joined in view.networks
        ):
            return None
        if view.status is ApiStatus.TOKEN_UNREADABLE:
            left_out.append(f"ZeroTier's networks and peers: {view.detail}; run it as root")
        return view


def try_port(address: Address, port: int, interface: str) -> PortState:
    """Connect to a port by `interface` and close again. Blocks for PORT_SECONDS seconds at most, raises nothing."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
            sock.settimeout(PORT_SECONDS)
            sock.connect((str(address), port))
            return PortState.OPEN
    except ConnectionRefusedError:
        return PortState.REFUSED
    except TimeoutError:
        return PortState.SILENT
    except OSError as error:
        return PortState.UNREACHABLE if error.errno in {errno.EHOSTUNREACH, errno.ENETUNREACH} else PortState.SILENT


def _plain_route(address: Address) -> RouteLookup | None:
    try:
        entry = route_guard.lookup(address)
        if entry is None or not entry.hops:
            return None
        return RouteLookup(entry.network, interfaces.link(entry.hops[0].index).name, entry.hops[0].gateway)
    except OSError:
        return None


def _neighbour(address: Address, index: int) -> Neighbour | None:
    try:
        return neighbours.neighbour(address, index)
    except OSError:
        return None


def _single_match(pattern: str, links: tuple[Interface, ...]) -> str:
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

"""One zone at one moment, as the kernel, the overlay, the other end and a target show it. Pure values.

`relay.net.diagnose.observe` makes them, `relay.net.diagnose.diagnosis` interprets them.
"""

from dataclasses import dataclass
from enum import StrEnum

from relay.core.network_plan import Overlay
from relay.core.policy.model import Address, Host, Network
from relay.net.kernel.interfaces import Interface
from relay.net.kernel.neighbours import Neighbour
from relay.net.kernel.route_guard import Route, RouteCheck
from relay.net.probe.ping import Echo, EchoKind
from relay.net.zerotier.node_view import JoinedNetwork, NodeView, Peer, member


class Role(StrEnum):
    """The machine that observes. For the relay the other end is the gateway, for the gateway it is the relay."""

    RELAY = "relay"
    GATEWAY = "gateway"


class PortState(StrEnum):
    """Outcome of a TCP connection to a target's port."""

    NOT_TRIED = "not-asked"
    OPEN = "open"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class RouteLookup:
    """Route of an unbound socket's packets; `gateway` None: on-link."""

    network: Network
    interface: str
    gateway: Address | None


@dataclass(frozen=True, slots=True)
class Reachability:
    """Whether an address answers. `echo` None: none could be sent."""

    address: Address
    name: str = ""
    echo: Echo | None = None
    neighbour: Neighbour | None = None
    port: int = 0
    port_state: PortState = PortState.NOT_TRIED

    @property
    def answers(self) -> bool:
        """Whether the address itself answered."""
        return (self.echo is not None and self.echo.kind is EchoKind.REPLY) or self.port_state in {
            PortState.OPEN,
            PortState.REFUSED,
        }

    @property
    def asked(self) -> bool:
        """Whether it was probed, so that silence means something."""
        return self.echo is not None or self.port_state is not PortState.NOT_TRIED


@dataclass(frozen=True, slots=True)
class Observation:
    """Everything observed of one zone. Zero values mean not observed, and `left_out` says why."""

    guard: RouteCheck  # for `address`; unused on the gateway
    address: Address  # one in the zone: its first host's, else the first of its first network
    interfaces: tuple[Interface, ...] = ()
    interface: str = ""  # the overlay's, "" where none or several match
    routes: tuple[Route, ...] = ()  # of the main table, that have to do with the zone
    plain: RouteLookup | None = None  # None: the kernel refuses it, or it is the zone's own
    reverse_path: int | None = None  # rp_filter in force on the interface
    far: Reachability | None = None  # the other end of the overlay
    target: Reachability | None = None
    forwarding: bool | None = None  # of the gateway
    lan: str = ""  # the gateway's interface into the LAN
    zerotier: NodeView | None = None  # None: the zone's overlay is another one
    left_out: tuple[str, ...] = ()

    def link(self, name: str) -> Interface | None:
        """One interface by name."""
        return next((link for link in self.interfaces if link.name == name), None)

    def joined(self, overlay: Overlay) -> JoinedNetwork | None:
        """The ZeroTier network that is the zone's: by its id, by its interface, by its routes, or the only one."""
        if self.zerotier is None:
            return None
        networks = self.zerotier.networks
        if overlay.network_id:
            return self.zerotier.network(overlay.network_id)
        for fits in (
            [joined for joined in networks if joined.interface and joined.interface == self.interface],
            [joined for joined in networks if any(route.target in overlay.zone.networks for route in joined.routes)],
            [joined for joined in networks if overlay.zone.gateway and _inside(joined, overlay.zone.gateway)],
        ):
            if len(fits) == 1:
                return fits[0]
        return networks[0] if len(networks) == 1 else None


def _inside(joined: JoinedNetwork, address: Address) -> bool:
    return any(address in assigned.network for assigned in joined.assigned)


def zone_address(overlay: Overlay, host: Host | None) -> Address:
    """The address by which a zone is checked."""
    if host is not None:
        return host.address
    network = overlay.zone.networks[0]
    return network.network_address + (1 if network.num_addresses > 2 else 0)


def peer_of(seen: Observation, joined: JoinedNetwork | None, public: Address | None = None) -> Peer | None:
    """The ZeroTier peer that is the other end, None where it is not known.

    It is found by the MAC of its neighbour entry; without one, by the path to the relay's `public` address; else it is
    the only peer that is no root.
    """
    if seen.zerotier is None or seen.far is None:
        return None
    peers = seen.zerotier.peers
    if joined is not None and seen.far.neighbour is not None and seen.far.neighbour.mac:
        return seen.zerotier.peer(member(seen.far.neighbour.mac, joined.id))
    if public is not None:
        at = [peer for peer in peers if any(path.endpoint.rpartition("/")[0] == str(public) for path in peer.paths)]
        if len(at) == 1:
            return at[0]
    own = [peer for peer in peers if peer.role != "PLANET"]
    return own[0] if len(own) == 1 else None

"""The values of network.yaml: what a network plan needs beyond the policy's zones.

The zones name networks, interfaces and gateways; `network.yaml` adds the underlay, the overlay's id and its members.
`relay.site.network_file` reads the file; `relay.net` derives scripts and checks from these values.
"""

from dataclasses import dataclass, field

from relay.core.policy.model import Address, Network, Zone


@dataclass(frozen=True, slots=True)
class OverlayMember:
    """A client that joins an overlay itself (method 2)."""

    name: str
    address: Address  # in the overlay


@dataclass(frozen=True, slots=True)
class Overlay:
    """A zone and its overlay. With None or "" (unknown) a zone can be watched, but not planned."""

    zone: Zone
    network_id: str = ""  # of ZeroTier, 16 hexadecimal digits; "": another overlay (WireGuard ...), joined by hand
    network: Network | None = None  # of the overlay itself, 172.18.0.0/24
    relay: Address | None = None  # the relay's address in it
    lan_interface: str = ""  # of the gateway, towards the LAN
    lan_address: Address | None = None  # of the gateway, in the LAN
    managed: bool = True  # the overlay's controller distributes the route into the LAN; else the relay sets it
    members: tuple[OverlayMember, ...] = ()


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    """The input of the scripts for all machines."""

    overlays: tuple[Overlay, ...] = ()
    public: Address | None = None  # the relay host's underlay address
    moon: bool = False  # the relay host is also a ZeroTier root of its own (a moon)
    persons: tuple[tuple[str, tuple[str, ...]], ...] = field(default=())  # person -> public key lines, for LAN hosts

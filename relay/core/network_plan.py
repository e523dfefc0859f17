"""What does a network plan know beyond the policy? The underlay, the overlay's id, and who joins it.

The policy's zones say what is reached by which interface and gateway; `network.yaml` adds only what they do not
know. Pure values: `relay.site.network_file` reads them from the file, `relay.net` makes scripts and checks of them.
"""

from dataclasses import dataclass, field

from relay.core.policy.model import Address, Network, Zone


@dataclass(frozen=True, slots=True)
class OverlayMember:
    """A machine that joins an overlay itself: a client of method 2."""

    name: str
    address: Address  # in the overlay


@dataclass(frozen=True, slots=True)
class Overlay:
    """One zone, and how its overlay is joined. None and "" mean not known: then it cannot be planned, only watched."""

    zone: Zone
    network_id: str = ""  # ZeroTier's, 16 hexadecimal digits; "": another overlay (WireGuard ...), joined by hand
    network: Network | None = None  # of the overlay itself, 172.18.0.0/24
    relay: Address | None = None  # the relay's address in it
    lan_interface: str = ""  # of the gateway, towards the LAN
    lan_address: Address | None = None  # of the gateway, in the LAN
    managed: bool = True  # the overlay's controller hands out the route into the LAN; else the relay sets it itself
    members: tuple[OverlayMember, ...] = ()


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    """Everything that scripts for all machines are made of."""

    overlays: tuple[Overlay, ...] = ()
    public: Address | None = None  # the relay host's underlay address
    moon: bool = False  # the relay host is also a ZeroTier root of its own (a Moon)
    persons: tuple[tuple[str, tuple[str, ...]], ...] = field(default=())  # person -> public key lines, for LAN hosts

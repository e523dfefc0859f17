"""Networks of the zones, and the interfaces by which each may be reached."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from relay.core.policy.model import Network, Zone


@dataclass(frozen=True, slots=True)
class Prefix:
    """One network, the patterns of the interfaces that lead to it, and the networks in it with rules of their own."""

    network: Network
    interfaces: tuple[str, ...]
    inner: tuple[Network, ...] = ()

    @property
    def family(self) -> int:
        """4 or 6."""
        return self.network.version


def prefixes(zones: Iterable[Zone]) -> tuple[Prefix, ...]:
    """One entry per network of the zones, sorted; zones on lo are left out, nothing of theirs leaves the machine.

    A network inside of another zone's is reached by both zones' interfaces, but the rest of the larger one only by
    its own: so the larger one's rule has to spare the networks `inner`.
    """
    zones = [zone for zone in zones if zone.interface != "lo"]
    networks = sorted(
        {network for zone in zones for network in zone.networks},
        key=lambda network: (network.version, network.network_address, network.prefixlen),
    )
    return tuple(
        Prefix(
            network,
            tuple(sorted({zone.interface for zone in zones if any(_within(network, held) for held in zone.networks)})),
            largest([other for other in networks if other != network and _within(other, network)]),
        )
        for network in networks
    )


def largest(networks: Sequence[Network]) -> tuple[Network, ...]:
    """The networks that no other one contains, in their order."""
    return tuple(one for one in networks if not any(one != other and _within(one, other) for other in networks))


def _within(inner: Network, outer: Network) -> bool:
    return inner.version == outer.version and inner.prefixlen >= outer.prefixlen and inner.network_address in outer


def literal(pattern: str) -> str:
    """`pattern` as the rules of nft know it: a name, or its beginning and `*` (wider than `zt?0`, never narrower)."""
    cut = min((pattern.find(letter) for letter in "*?" if letter in pattern), default=-1)
    return pattern if cut < 0 else f"{pattern[:cut]}*"

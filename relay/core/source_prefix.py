"""The source of a client, an IPv4 address or an IPv6 /64, and the network that a source belongs to."""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network


@lru_cache(maxsize=4096)  # in a flood each address is looked up a dozen times
def source_of(address: str) -> str:
    """The source that an address counts as: the IPv4 address (also when mapped into IPv6), or the IPv6 /64.

    Raises ValueError for text that is no address.
    """
    parsed: IPv4Address | IPv6Address = ip_address(address.split("%", maxsplit=1)[0])
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is None:
            return str(IPv6Network((parsed, 64), strict=False))
        parsed = parsed.ipv4_mapped
    return str(parsed)


@lru_cache(maxsize=4096)
def network_of(source: str) -> str:
    """The network that a source belongs to: the /24 of IPv4, the /48 of IPv6."""
    return str(ip_network((source.partition("/")[0], 48 if ":" in source else 24), strict=False))

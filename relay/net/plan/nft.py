"""Rules for nftables (nft(8)). Each text replaces our own table as a whole, in one transaction.

An `accept` of ours does not overrule another table's drop, and a drop of ours is final. So only packets of the
overlay's interfaces are dropped, and other forwarding (Docker's) is unchanged.
"""

from collections.abc import Iterable, Sequence
from shlex import quote

from relay.core.policy.model import Network, Zone
from relay.net.plan.machine import TABLE
from relay.net.plan.prefixes import Prefix, literal

# to the local sender, as the unreachable route does: connect() fails at once with EHOSTUNREACH
_REJECT = "reject with icmpx type host-unreachable"

# whether the rules are there
STAND = f"nft list table inet {TABLE}"
# the part of `down`
DOWN = f"! nft list table inet {TABLE} >/dev/null 2>&1 || nft delete table inet {TABLE}\n"


def others(cure: str) -> str:
    """The part of `up` that warns of other programs' rules: their drop is final, and no accept of ours overrules it."""
    return f"""
if nft list chains | grep -q 'hook forward .*policy drop' ||
    {{ [ -s /proc/net/ip_tables_names ] && iptables -S FORWARD | grep -q 'P FORWARD DROP'; }}; then
    note "other rules here drop what is forwarded (Docker's and ufw's do), so nothing comes through yet;" \\
        {quote(cure)}
fi
"""


def table(chains: Iterable[str]) -> str:
    """The whole file: our table, replaced in one transaction."""
    body = "\n".join(chains)
    return f"table inet {TABLE}\ndelete table inet {TABLE}\n\ntable inet {TABLE} {{\n{body}}}\n"


def chain(name: str, rules: Sequence[str], hook: str = "") -> str:
    """One chain; `hook` as nft writes it (`type filter hook output priority filter; policy accept;`)."""
    lines = [f"\tchain {name} {{", *([f"\t\t{hook}"] if hook else []), *(f"\t\t{rule}" for rule in rules), "\t}"]
    return "\n".join(lines) + "\n"


def guard(prefixes: Iterable[Prefix], zones: Iterable[Zone] = ()) -> list[str]:
    """The rules of one chain that let no packet for a zone leave by another interface, or to another next hop.

    One rule per prefix, listing its interfaces; and one per prefix of a zone with a gateway. A bound socket whose
    route vanished looks for its target on-link, and an established connection continues to any member that answers:
    neither its interface nor an unreachable route stops that (measured), the rule about the next hop does.
    """
    rules = ['oifname "lo" return']
    for prefix in prefixes:
        spare = f" {family(prefix.network)} daddr != {_set(prefix.inner)}" if prefix.inner else ""
        other = " ".join(f'oifname != "{literal(interface)}"' for interface in prefix.interfaces)
        rules.append(f"{family(prefix.network)} daddr {prefix.network}{spare} {other} {_REJECT}")
    for zone in zones:
        # a pattern that nft knows only in a wider form could be another zone's interface, with its own gateway
        if zone.gateway is not None and zone.interface != "lo" and literal(zone.interface) == zone.interface:
            rules += [
                f'oifname "{zone.interface}" {word} daddr {network} rt {word} nexthop != {zone.gateway} {_REJECT}'
                for network in zone.networks
                if network.version == zone.gateway.version
                for word in [family(network)]
            ]
    return rules


def no_redirects(interface: str) -> list[str]:
    """Drop ICMP redirects: any member can forge one, and `guard` would then stop all packets for the zone."""
    return [f'iifname "{interface}" {what} drop' for what in ("icmp type redirect", "icmpv6 type nd-redirect")]


def family(network: Network) -> str:
    """The word for a network's family."""
    return "ip" if network.version == 4 else "ip6"


def _set(networks: Sequence[Network]) -> str:
    return str(networks[0]) if len(networks) == 1 else "{ " + ", ".join(map(str, networks)) + " }"

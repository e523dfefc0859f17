"""Would nftables here stop a packet of this machine to an address if it left by another interface?

Reads what `nft -j list ruleset` prints (libnftables-json(5)) and follows the base chains of the output hook. Only
what is surely a drop counts: of a rule with anything else in it than destinations and outgoing interfaces it is not
known whether it matches, so its drop is none, and its `accept` (of established connections, say) lets through.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

from relay.core.policy.model import Address

Key = tuple[str, str, str]  # family, table, chain
_DEEPEST = 16  # jumps; the kernel's own limit
_STOPPING = frozenset({"drop", "reject"})
_VERDICTS = ("drop", "reject", "accept", "return", "jump", "goto")
_SILENT = frozenset({"counter", "log", "comment"})  # statements that decide nothing
_FAMILIES = {"inet": (4, 6), "ip": (4,), "ip6": (6,)}
_FIELDS = {"ip": 4, "ip6": 6}


@dataclass(frozen=True, slots=True)
class SimulatedPacket:
    """What is asked about: a packet of this machine to `address`, by `interface`, handed to `hop` there."""

    address: Address
    interface: str
    hop: Address | None = None


@dataclass(frozen=True, slots=True)
class Ruleset:
    """What matters of one listing: each chain's rules as their expressions, and the base chains with their policies."""

    chains: dict[Key, list[list[Any]]]
    bases: tuple[tuple[Key, str], ...]

    def stops(self, address: Address, interface: str, hop: Address | None = None) -> str:
        """The table that drops or rejects a packet to `address` leaving by `interface`, "" if none surely does.

        `hop`: to whom it is handed there (on-link: the address itself); None: not known.
        """
        packet = SimulatedPacket(address, interface, hop)
        for key, policy in self.bases:
            if address.version not in _FAMILIES.get(key[0], ()):
                continue
            if (self._run(key, packet, 0) or policy) in _STOPPING:
                return f"{key[0]} {key[1]}"
        return ""

    def _run(self, key: Key, packet: SimulatedPacket, depth: int) -> str:
        """How the chain ends: drop, reject or accept (also for not known), or "" for its end or a return."""
        if depth > _DEEPEST:
            return "accept"
        for expressions in self.chains.get(key, []):
            verdict, target, sure = _verdict(expressions, packet)
            if not sure:
                if verdict not in _STOPPING and verdict:
                    return "accept"
            elif verdict in _STOPPING or verdict == "accept":
                return verdict
            elif verdict == "return":
                return ""
            elif verdict:  # jump, goto
                ended = self._run((*key[:2], target), packet, depth + 1)
                if ended or verdict == "goto":
                    return ended
        return ""


def parse(text: str) -> Ruleset:
    """A listing as values. Raises ValueError for what is none."""
    try:
        listed = json.loads(text)
    except RecursionError:  # a thousand brackets
        raise ValueError("no listing of nftables") from None
    if not isinstance(listed, dict) or not isinstance(listed.get("nftables"), list):
        raise ValueError("no listing of nftables")
    chains: dict[Key, list[list[Any]]] = {}
    bases = []
    for item in listed["nftables"]:
        chain, rule = (item.get("chain"), item.get("rule")) if isinstance(item, dict) else (None, None)
        if isinstance(chain, dict):
            key = _key(chain, "name")
            chains.setdefault(key, [])
            if chain.get("hook") == "output" and chain.get("type") == "filter":
                bases.append((key, str(chain.get("policy", "accept"))))
        elif isinstance(rule, dict) and isinstance(rule.get("expr"), list):
            chains.setdefault(_key(rule, "chain"), []).append(rule["expr"])
    return Ruleset(chains, tuple(bases))


def _key(item: dict[str, Any], name: str) -> Key:
    return str(item.get("family")), str(item.get("table")), str(item.get(name))


def _verdict(expressions: list[Any], packet: SimulatedPacket) -> tuple[str, str, bool]:
    """(verdict, chain to jump to, whether the rule surely matches) of one rule; "" where it does not match."""
    sure = True
    for expression in expressions:
        if not isinstance(expression, dict):
            return "accept", "", False
        if "match" in expression:
            found = _matches(expression["match"], packet)
            if found is False:
                return "", "", True
            sure = sure and found is True
            continue
        for verdict in _VERDICTS:
            if verdict in expression:
                inner = expression[verdict]
                return verdict, str(inner.get("target", "")) if isinstance(inner, dict) else "", sure
        if not expression.keys() & _SILENT:  # a verdict map, an iptables extension ...
            sure = False
    return ("", "", True) if sure else ("accept", "", False)


def _matches(match: Any, packet: SimulatedPacket) -> bool | None:
    """Whether one comparison holds for the packet; None: not known."""
    left = match.get("left") if isinstance(match, dict) else None
    if not isinstance(left, dict) or match.get("op") not in {"==", "!=", "in"}:
        return None
    payload, meta, route = left.get("payload"), left.get("meta"), left.get("rt")
    found: bool | None = None
    if isinstance(payload, dict) and payload.get("field") == "daddr" and str(payload.get("protocol")) in _FIELDS:
        if _FIELDS[str(payload["protocol"])] != packet.address.version:
            return False
        found = _any(_holds(value, packet.address) for value in _values(match.get("right")))
    elif isinstance(meta, dict) and meta.get("key") == "oifname":
        found = _any(_named(value, packet.interface) for value in _values(match.get("right")))
    elif isinstance(route, dict) and route.get("key") == "nexthop" and packet.hop is not None:
        if _FIELDS.get(str(route.get("family"))) != packet.hop.version:
            return None
        hop = packet.hop
        found = _any(_holds(value, hop) for value in _values(match.get("right")))
    return None if found is None else found == (match["op"] != "!=")


def _any(found: Iterator[bool | None]) -> bool | None:
    """Of three-valued answers: one yes is yes, else one not known is not known."""
    answers = list(found)
    return True if True in answers else None if None in answers else False


def _values(right: Any) -> Iterator[Any]:
    """The members of an anonymous set, or the one value."""
    if isinstance(right, dict) and isinstance(right.get("set"), list):
        yield from right["set"]
    else:
        yield right


def _holds(value: Any, address: Address) -> bool | None:
    """Whether an address, a prefix or a range of a listing has `address` in it; None for anything else."""
    try:
        if isinstance(value, str):
            return bool(ip_address(value) == address)
        if isinstance(value, dict) and isinstance(prefix := value.get("prefix"), dict):
            return address in ip_network(f"{prefix['addr']}/{int(prefix['len'])}", strict=False)
        if isinstance(value, dict) and isinstance(ends := value.get("range"), list):
            first, last = map(ip_address, ends)
            return first.version == address.version and int(first) <= int(address) <= int(last)
    except (ValueError, KeyError, TypeError):
        return None
    return None


def _named(value: Any, interface: str) -> bool | None:
    """Whether an interface's name as nft writes it (whole, or its beginning and `*`) means `interface`."""
    if not isinstance(value, str) or value.startswith("@"):
        return None
    return interface.startswith(value[:-1]) if value.endswith("*") else value == interface

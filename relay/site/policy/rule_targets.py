"""Resolver of entries in a rule's `to`: hosts, HOST.ZONE, zones, networks, addresses, patterns."""

import difflib
import re
from fnmatch import fnmatchcase
from ipaddress import ip_network

from relay.core.escape import escape
from relay.core.policy import target
from relay.core.policy.inventory import Inventory
from relay.core.policy.model import Destination, Network, Reason
from relay.errors import InputRejected
from relay.site.yaml import scalars

Pair = tuple[str, Network]

_PATTERN = re.compile(r"[a-z0-9._*?-]{1,80}")
_CIDR = re.compile(r"(?P<network>[0-9a-fA-F:.]+/[0-9]{1,3})(?:\.(?P<zone>[a-z0-9].*))?")
_PORT = re.compile(r"[^:\[\]]+:[0-9-]+|\[.*\]:[0-9-]+")


class TargetResolver:
    """Resolves texts for one inventory. `broken` names and those of unread files are not reported as unknown."""

    def __init__(self, inventory: Inventory, broken: set[str], whole: bool) -> None:
        self._inventory, self._broken, self._whole = inventory, broken, whole
        self._known: dict[str, tuple[Pair, ...]] = {}

    def pairs(self, text: str) -> tuple[Pair, ...]:
        """The (zone, network) pairs of `text`; none for a pattern without a match.

        Raises InputRejected for text that is unknown, ambiguous, malformed or not wholly in one zone.
        """
        if text not in self._known:
            self._known[text] = self._find(text)
        return self._known[text]

    def _find(self, text: str) -> tuple[Pair, ...]:
        if "*" in text or "?" in text:
            return self._pattern(text)
        found = _CIDR.fullmatch(text)
        if found:
            return self._network(scalars.network(found["network"]), found["zone"] or "")
        if text in self._inventory.zones:
            return tuple((text, network) for network in self._inventory.zones[text].networks)
        if _PORT.fullmatch(text):
            raise InputRejected(f"{escape(text, 60)!r} has a port", "list ports under `ports`")
        return self._place(text)

    def _pattern(self, text: str) -> tuple[Pair, ...]:
        if not _PATTERN.fullmatch(text):
            raise InputRejected(
                f"{escape(text, 60)!r} is not a pattern", "lower-case letters, digits and . _ - * ? only"
            )
        if re.fullmatch(r"[0-9.*?]*[0-9][0-9.*?]*", text) and text.count(".") >= 2:
            raise InputRejected(f"{text!r} is a pattern of addresses", "write a network like 192.168.1.0/24")
        return tuple(
            (host.zone, ip_network(host.address))
            for name, host in self._inventory.hosts.items()  # by NAME.ZONE
            if fnmatchcase(host.name, text) or fnmatchcase(name, text)
        )

    def _network(self, network: Network, zone: str) -> tuple[Pair, ...]:
        holding = [
            name
            for name, one in self._inventory.zones.items()
            if any(network.version == net.version and network.subnet_of(net) for net in one.networks)  # type: ignore[arg-type]  # same version
        ]
        if zone:
            if zone not in self._inventory.zones:
                return self._unknown(zone, f"no zone {escape(zone, 40)!r}")
            if zone not in holding:
                raise InputRejected(f"{network} is not wholly in the zone {zone}", self._networks(zone))
            return ((zone, network),)
        if len(holding) == 1:
            return ((holding[0], network),)
        if holding:
            choices = " or ".join(f"{network}.{name}" for name in sorted(holding))
            raise InputRejected(f"{network} is in {len(holding)} zones", f"write {choices}")
        if not self._whole or self._broken:
            return ()
        raise InputRejected(f"{network} is not wholly in any zone", "extend a zone's networks, or write it smaller")

    def _networks(self, zone: str) -> str:
        return f"{zone} holds {', '.join(map(str, self._inventory.zones[zone].networks))}"

    def _place(self, text: str) -> tuple[Pair, ...]:
        asked = target.parse_target(text, 1)
        if asked.address is not None:
            # not resolved, because a rule may also deny a forbidden address
            return self._network(ip_network(asked.address), asked.zone)
        found = self._inventory.resolve(asked)
        if isinstance(found, Destination):
            return ((found.zone, ip_network(found.address)),)
        if found.reason is Reason.AMBIGUOUS_TARGET:
            raise InputRejected(found.detail, "write " + " or ".join(found.choices))
        if found.reason is Reason.FORBIDDEN_ADDRESS:
            raise InputRejected(found.detail, "it is refused regardless of the rules")
        return self._unknown(text, f"no host or zone {escape(text, 60)!r}")

    def _unknown(self, name: str, what: str) -> tuple[Pair, ...]:
        """No pairs if the fault of its definition is already reported, else InputRejected with the nearest name."""
        if not self._whole or {name, name.rpartition(".")[2], name.partition(".")[0]} & self._broken:
            return ()
        inventory = self._inventory
        places = {*inventory.zones, *inventory.hosts, *(host.name for host in inventory.hosts.values())}
        near = difflib.get_close_matches(name, sorted(places), n=1)
        cure = f"did you mean {near[0]}?" if near else "define it under `zones:` or `hosts:`"
        raise InputRejected(what, cure)

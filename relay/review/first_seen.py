"""Last-seen times of persons, keys, networks, targets and client programs.

One `SeenItems` holds the log before a window and another holds the window. An item that is only in the second is new;
an item of the site that is in neither is unused.
"""

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import TypeVar

from relay.core.audit.audit_query import host_of
from relay.core.audit.event import Value

Place = tuple[str, str]  # zone and address; for a target without a decision "" and the requested host
_DIGITS = re.compile(r"[0-9]")
_Key = TypeVar("_Key", bound=Hashable)


@dataclass(slots=True)
class SeenItems:
    """Items and the time (UTC microseconds) when each was last seen."""

    persons: dict[str, int] = field(default_factory=dict)
    keys: dict[tuple[str, str], int] = field(default_factory=dict)  # person, fingerprint
    networks: dict[tuple[str, str, str], int] = field(default_factory=dict)  # person, fingerprint, network
    versions: dict[str, int] = field(default_factory=dict)  # of clients, whosever
    programs: dict[tuple[str, str], int] = field(default_factory=dict)  # person, client's name without its version
    pairs: dict[tuple[str, Place, int], int] = field(default_factory=dict)  # person, place, port that were allowed
    places: dict[Place, int] = field(default_factory=dict)
    rules: dict[str, int] = field(default_factory=dict)  # by name: a rule that moves to another line stays the same
    denied: int = 0  # forwards
    denied_of: dict[str, int] = field(default_factory=dict)  # of each person

    def meet(self, fields: Mapping[str, Value], time: int, *, denied: int = 0) -> None:
        """Add the items in these fields, seen at `time`; `denied` forwards of them were denied (0: allowed)."""
        person, fingerprint = text(fields, "person"), text(fields, "fingerprint")
        if person:
            _last(self.persons, person, time)
            version = text(fields, "client_version")
            if fingerprint:
                _last(self.keys, (person, fingerprint), time)
                _last(self.networks, (person, fingerprint, network(text(fields, "client"))), time)
            if version:
                _last(self.versions, version, time)
                _last(self.programs, (person, program(version)), time)
        rule = text(fields, "rule")
        if rule:
            _last(self.rules, rule, time)
        if denied:
            self.denied += denied
            self.denied_of[person] = self.denied_of.get(person, 0) + denied
        elif fields.get("address"):
            place, port = place_of(fields), fields.get("port")
            _last(self.places, place, time)
            if person:
                _last(self.pairs, (person, place, port if isinstance(port, int) else 0), time)


def _last(seen: dict[_Key, int], key: _Key, time: int) -> None:
    if seen.get(key, -1) < time:
        seen[key] = time


def text(fields: Mapping[str, Value], key: str) -> str:
    """A field that is a text, "" when it is missing or none."""
    value = fields.get(key)
    return value if isinstance(value, str) else ""


def place_of(fields: Mapping[str, Value]) -> Place:
    """The target of a forward, also of a denied one."""
    address = text(fields, "address")
    return (text(fields, "zone"), address) if address else ("", host_of(fields.get("asked")) or "")


@lru_cache(maxsize=4096)
def network(client: str) -> str:
    """The network that stands for a client's address, /24 or /48; a text that is no address is returned as it is."""
    try:
        address = ip_address(client)
    except ValueError:
        return client
    return str(ip_network((address, 24 if address.version == 4 else 48), strict=False))


@lru_cache(maxsize=4096)
def program(version: str) -> str:
    """The name of a client's program: `SSH-2.0-OpenSSH_9.2p1 Debian` is OpenSSH."""
    words = version.split("-", 2)
    name = words[2] if len(words) == 3 and words[0] == "SSH" else version
    return _DIGITS.split(name, maxsplit=1)[0].rstrip(" _-/.v") or name

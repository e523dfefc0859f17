"""Snapshots: a compiled policy as lines of JSON, which a process can load a few lines at a time.

A snapshot is a list of lines, each a JSON array whose first entry is its kind, in this order:

    head    format, version, public, [[listener's address or null, port], ...], [[UTC seconds, UTC offset], ...]
    zone    name, [network, ...], interface, gateway or null
    host    name, zone, address, user, port
    group   name, "person person ..."
    persons "person person ..."         a set of persons, numbered from 1; rules refer to the number
    places  "zone network ..."          a set of places, likewise
    rule    name, allow, file, line, persons, everyone, excepted, places, ports, sources, until, windows
    masks   everyone, deny, conditional (each mask in hexadecimal)
    person  name, mask
    place   zone, version, shift, prefix, mask
    ports   first port, mask
    end     number of lines before it, SHA-256 of them with their line feeds

The masks are precomputed, so that loading a line takes microseconds (half a millisecond for the longest, 256 KiB).
A loader returns a policy only after all lines were fed and their digest matches.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network

from relay.core.policy import forbidden_addresses, rule_index
from relay.core.policy.inventory import Inventory
from relay.core.policy.model import Address, Host, Zone
from relay.core.policy.policy import Policy
from relay.core.policy.rule_index import LINE_MOST, RuleIndex
from relay.core.policy.target import parse_spec
from relay.errors import InputRejected, RelayError

FORMAT = 1  # a loader refuses every other format
LINES_MOST = 2_000_000

_HEX = re.compile(r"[0-9a-f]+")
_PERSONS = re.compile(r"[a-z0-9._-]+(?: [a-z0-9._-]+)*+")
_PLACES = re.compile(r"[a-z0-9._-]+ [0-9a-f.:]+/[0-9]{1,3}(?: [a-z0-9._-]+ [0-9a-f.:]+/[0-9]{1,3})*+")
_HINT = "reload the site: relayctl reload"


def dump(policy: Policy) -> Iterator[str]:
    """The lines of a policy, without line feeds. Equal policies have equal lines."""
    digest, count = hashlib.sha256(), 0
    for line in _body(policy):
        digest.update(line.encode())
        digest.update(b"\n")
        count += 1
        yield line
    yield _text("end", count, digest.hexdigest())


def offsets(head: str) -> tuple[tuple[int, int], ...]:
    """The UTC offsets in a snapshot's first line, without loading the rest. Raises ValueError or LookupError."""
    return tuple((int(at), int(offset)) for at, offset in json.loads(head)[5])


def _body(policy: Policy) -> Iterator[str]:
    index = policy.index
    listeners = [(None if address is None else str(address), port) for address, port in policy.forbidden.listeners]
    yield _text("head", FORMAT, policy.version, policy.public, listeners, policy.offsets)
    for zone in policy.inventory.zones.values():
        gateway = None if zone.gateway is None else str(zone.gateway)
        yield _text("zone", zone.name, [str(network) for network in zone.networks], zone.interface, gateway)
    for host in policy.inventory.hosts.values():
        yield _text("host", host.name, host.zone, str(host.address), host.user, host.port)
    for name, persons in policy.groups.items():
        yield _text("group", name, persons)
    for persons in index.person_sets[1:]:
        yield _text("persons", persons)
    for places in index.place_sets[1:]:
        yield _text("places", places)
    yield from index.rules
    yield _text("masks", f"{index.everyone:x}", f"{index.deny:x}", f"{index.conditional:x}")
    for person, mask in index.persons.items():
        yield _text("person", person, f"{mask:x}")
    for zone_name, version, shift, prefix, mask in index.places():
        yield _text("place", zone_name, version, shift, prefix, f"{mask:x}")
    for start, mask in zip(index.port_starts[1:], index.port_masks[1:], strict=True):
        yield _text("ports", start, f"{mask:x}")


def _text(*row: object) -> str:
    return json.dumps(row, separators=(",", ":"))


class SnapshotLoader:
    """Loads a snapshot line by line and returns the whole policy or raises.

    After the first error every further call raises.
    """

    def __init__(self) -> None:
        self._count = 0
        self._stage = -1
        self._ended = False
        self._broken = False
        self._digest = hashlib.sha256()
        self._version = ""
        self._public = ""
        self._listeners: list[tuple[Address | None, int]] = []
        self._offsets: tuple[tuple[int, int], ...] = ()
        self._inventory = Inventory()
        self._groups: dict[str, str] = {}
        self._index = RuleIndex()

    def feed(self, line: str) -> None:
        """Load one line, with or without its line feed. Raises InputRejected for an invalid or misplaced line."""
        if self._broken or self._ended:
            raise InputRejected("the snapshot continues after its end or after an error", _HINT)
        self._broken = True  # until this line is loaded
        line = line.removesuffix("\n")
        if len(line) > LINE_MOST or self._count >= LINES_MOST:
            raise InputRejected(f"line {self._count + 1} of the snapshot is too long, or one too many", _HINT)
        try:
            data = line.encode()  # raises for a lone surrogate
            kind, *row = json.loads(line)
            stage = _ORDER[kind]
            if stage < self._stage or (self._stage == -1 and kind != "head"):
                raise ValueError(f"{kind} does not come here")
            if kind == "rule":
                _check_rule([kind, *row], len(self._index.person_sets), len(self._index.place_sets))
                self._rule(line)
            else:
                _HANDLERS[kind](self, *row)
        except (ValueError, TypeError, KeyError, IndexError, RecursionError, RelayError) as error:
            what = f"line {self._count + 1} of the snapshot is invalid ({type(error).__name__})"
            raise InputRejected(what, _HINT) from error
        self._stage = stage
        self._digest.update(data)
        self._digest.update(b"\n")
        self._count += 1
        self._broken = False

    def finish(self) -> Policy:
        """The policy. Raises InputRejected if a line is missing or was changed."""
        if self._broken or not self._ended:
            raise InputRejected("the snapshot is incomplete", _HINT)
        self._broken = True  # the returned policy is not modified any more
        zones = tuple(self._inventory.zones.values())
        public = parse_spec(self._public) if self._public else None
        return Policy(
            version=self._version,
            inventory=self._inventory,
            forbidden=forbidden_addresses.compile_forbidden(zones, self._listeners, public),
            index=self._index,
            public=self._public,
            groups=self._groups,
            offsets=self._offsets,
        )

    def _head(self, number: int, version: str, public: str, listeners: list[list], offsets: list[list]) -> None:  # type: ignore[type-arg]
        if self._stage != -1 or number != FORMAT:
            raise ValueError(f"format {number} is not {FORMAT}")
        self._version, self._public = _str(version), _str(public)
        if not version:
            raise ValueError("no version")
        self._inventory = Inventory(parse_spec(public).name if public else "")
        self._listeners = [(None if text is None else ip_address(_str(text)), _int(port)) for text, port in listeners]
        self._offsets = tuple((_int(moment), _int(offset)) for moment, offset in offsets)

    def _zone(self, name: str, networks: list[str], interface: str, gateway: str | None) -> None:
        self._inventory.add_zone(
            Zone(
                _str(name),
                tuple(ip_network(_str(network)) for network in networks),
                _str(interface),
                None if gateway is None else ip_address(_str(gateway)),
            )
        )

    def _host(self, name: str, zone: str, address: str, user: str, port: int) -> None:
        self._inventory.add_host(Host(_str(name), _str(zone), ip_address(_str(address)), _str(user), _int(port)))

    def _group(self, name: str, persons: str) -> None:
        self._groups[_str(name)] = _matching(_PERSONS, persons) if persons else ""

    def _person_set(self, persons: str) -> None:
        self._index.person_sets.append(_matching(_PERSONS, persons))

    def _place_set(self, places: str) -> None:
        self._index.place_sets.append(_matching(_PLACES, places))

    def _rule(self, line: str) -> None:
        self._index.rules.append(line)

    def _masks(self, everyone: str, deny: str, conditional: str) -> None:
        index = self._index
        index.everyone, index.deny, index.conditional = (self._mask(text) for text in (everyone, deny, conditional))

    def _person(self, name: str, mask: str) -> None:
        self._index.persons[_str(name)] = self._mask(mask)

    def _place(self, zone: str, version: int, shift: int, prefix: int, mask: str) -> None:
        if zone not in self._inventory.zones:
            raise ValueError("no such zone")
        rule_index.network(version, shift, prefix)  # raises for an invalid network
        self._index.add_place(zone, version, shift, prefix, self._mask(mask))

    def _ports(self, start: int, mask: str) -> None:
        if not self._index.port_starts[-1] < _int(start) <= 65536:
            raise ValueError("ports out of order")
        self._index.port_starts.append(start)
        self._index.port_masks.append(self._mask(mask))

    def _end(self, count: int, digest: str) -> None:
        if self._stage < _ORDER["masks"] or count != self._count or digest != self._digest.hexdigest():
            raise ValueError("lines are missing or were changed")
        self._ended = True

    def _mask(self, text: str) -> int:
        mask = int(_matching(_HEX, text), 16)
        if mask >> len(self._index.rules):
            raise ValueError("a mask is about rules that are not there")
        return mask


# In the order of the lines. Not an attribute of the loader: bound methods would form a reference cycle, and an old
# policy would be freed by the garbage collector, in one long pause, instead of at its last reference.
_HANDLERS: dict[str, Callable[..., None]] = {
    "head": SnapshotLoader._head,
    "zone": SnapshotLoader._zone,
    "host": SnapshotLoader._host,
    "group": SnapshotLoader._group,
    "persons": SnapshotLoader._person_set,
    "places": SnapshotLoader._place_set,
    "rule": SnapshotLoader._rule,
    "masks": SnapshotLoader._masks,
    "person": SnapshotLoader._person,
    "place": SnapshotLoader._place,
    "ports": SnapshotLoader._ports,
    "end": SnapshotLoader._end,
}
_ORDER = {kind: stage for stage, kind in enumerate(_HANDLERS)}


def _check_rule(row: list, person_sets: int, place_sets: int) -> None:  # type: ignore[type-arg]
    match row:
        case [
            "rule",
            str(),
            bool(),
            str(),
            int(),
            int(persons),
            bool(),
            int(excepted),
            int(places),
            list(ports),
            list(sources),
            None | int(),
            list(windows),
        ]:
            fits = 0 <= persons < person_sets and 0 <= excepted < person_sets and 0 <= places < place_sets
            fits = fits and all(0 < _int(low) <= _int(high) < 65536 for low, high in ports)
            for version, shift, prefix in sources:
                rule_index.network(version, shift, prefix)
            for days, start, end in windows:
                fits = fits and 0 <= _int(days) < 128 and 0 <= _int(start) < 1440 and 0 <= _int(end) <= 1440
        case _:
            fits = False
    if not fits:
        raise ValueError("not a rule")


def _str(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _int(value: object) -> int:
    if type(value) is not int:
        raise TypeError("not a number")
    return value


def _matching(pattern: re.Pattern[str], value: object) -> str:
    if not pattern.fullmatch(_str(value)):
        raise ValueError("not of the form asked for")
    return _str(value)

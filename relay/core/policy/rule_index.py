"""Index of rules as bit masks, so that a decision costs the same with 10,000 rules as with ten.

Rules are sorted by (file, line, name, remaining fields) and numbered; bit N of a mask is rule N. There is a mask for
each person that a rule names, one for all other persons, one for each network of a zone and one for each range of
ports. The candidate rules are the AND of three look-ups. Only their conditions (until, hours, from) are then evaluated,
from the lowest number up. The reported rule therefore depends on the sort order alone, never on the order in which
files were read or masks were built.

The rules themselves stay JSON text, the lines of the snapshot. A worker loads and frees them at almost no cost, since
the garbage collector sees no objects, and a decision decodes only the deciding rule.
"""

import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network

from relay.core.policy import time_conditions
from relay.core.policy.model import Address, Network, Rule, RuleName, TimeWindow
from relay.core.policy.target import name_fault
from relay.errors import InputRejected

RULES_MOST = 100_000  # ten times the number that decisions are benchmarked with
INDEX_MOST = 128 << 20  # bytes of all masks together; 10,000 rules for 1,000 hosts and persons need about 3 MiB
LINE_MOST = 1 << 18  # characters of one snapshot line: parsed in under a millisecond, room for 9,000 networks in a rule

# the fields of a rule's line, after the word "rule"
NAME, ALLOW, FILE, LINE, PERSONS, EVERYONE, EXCEPTED, TO, PORTS, SOURCES, UNTIL, WINDOWS = range(1, 13)

Ranges = tuple[tuple[int, int], ...]


class RuleIndex:
    """The rules of a policy and their masks. Filled by `fill` or by `SnapshotLoader`, then only read."""

    __slots__ = (
        "_places",
        "conditional",
        "deny",
        "everyone",
        "person_sets",
        "persons",
        "place_sets",
        "port_masks",
        "port_starts",
        "rules",
    )

    def __init__(self) -> None:
        self.rules: list[str] = []
        self.person_sets: list[str] = [""]  # distinct sets of persons, each as names with spaces between
        self.place_sets: list[str] = [""]  # distinct `to`, each as "zone network zone network ..."
        self.deny = 0
        self.conditional = 0  # mask of the rules with until, hours or from
        self.everyone = 0  # mask for persons that no rule names
        self.persons: dict[str, int] = {}
        self._places: dict[tuple[str, int], dict[int, dict[int, int]]] = {}  # zone, version: shift: prefix: mask
        self.port_starts: list[int] = [0]  # the first port of each mask in port_masks
        self.port_masks: list[int] = [0]

    def add_place(self, zone: str, version: int, shift: int, prefix: int, mask: int) -> None:
        """Set the rules for a network: the addresses of `version` with `address >> shift == prefix`."""
        self._places.setdefault((zone, version), {}).setdefault(shift, {})[prefix] = mask

    def places(self) -> Iterator[tuple[str, int, int, int, int]]:
        """All networks, as arguments of `add_place`."""
        for (zone, version), shifts in self._places.items():
            for shift, prefixes in shifts.items():
                for prefix, mask in prefixes.items():
                    yield zone, version, shift, prefix, mask

    def for_address(self, zone: str, address: Address) -> int:
        """The mask of the rules whose `to` contains this address of this zone, for any person and port."""
        mask = 0
        value = int(address)
        for shift, prefixes in self._places.get((zone, address.version), {}).items():
            mask |= prefixes.get(value >> shift, 0)
        return mask

    def for_network(self, zone: str, net: Network) -> int:
        """The mask of the rules whose `to` contains this whole network of this zone."""
        mask = 0
        least = net.max_prefixlen - net.prefixlen
        value = int(net.network_address)
        for shift, prefixes in self._places.get((zone, net.version), {}).items():
            if shift >= least:
                mask |= prefixes.get(value >> shift, 0)
        return mask

    def for_port(self, port: int) -> int:
        """The mask of the rules that contain this port, for any person and address."""
        return self.port_masks[bisect_right(self.port_starts, port) - 1]

    def for_person(self, person: str) -> int:
        """The mask of the rules that apply to this person, for any address and port."""
        return self.persons.get(person, self.everyone)

    def candidates(self, person: str, zone: str, address: Address, port: int) -> int:
        """The mask of the rules that apply if their conditions hold."""
        return self.for_person(person) & self.for_address(zone, address) & self.for_port(port)

    def first_match(self, mask: int, source: Address | None, now: int, local_now: int) -> tuple[int, int]:
        """The first rule of `mask` whose conditions hold, and the first one before it whose conditions do not.

        -1 stands for none. `source` None is an address that no rule names.
        """
        missed = -1
        while mask:
            bit = mask & -mask
            number = bit.bit_length() - 1
            if not bit & self.conditional or not failed_condition(self.record(number), source, now, local_now):
                return number, missed
            if missed < 0:
                missed = number
            mask ^= bit
        return -1, missed

    def record(self, number: int) -> list:  # type: ignore[type-arg]  # a JSON array with the fields named above
        """A rule's line as a JSON array."""
        return json.loads(self.rules[number])  # type: ignore[no-any-return]  # our own JSON

    def name(self, number: int) -> RuleName:
        """The name and place of a rule."""
        record = self.record(number)
        return RuleName(record[NAME], record[FILE], record[LINE])

    def rule(self, number: int) -> Rule:
        """A rule in full. Takes microseconds per person and network: not for the path of a forward."""
        record = self.record(number)
        places = self.place_sets[record[TO]].split()
        return Rule(
            name=record[NAME],
            allow=record[ALLOW],
            persons=frozenset(self.person_sets[record[PERSONS]].split()),
            everyone=record[EVERYONE],
            excepted=frozenset(self.person_sets[record[EXCEPTED]].split()),
            to=tuple((zone, ip_network(text)) for zone, text in zip(places[::2], places[1::2], strict=True)),
            ports=tuple((low, high) for low, high in record[PORTS]),
            sources=tuple(network(*source) for source in record[SOURCES]),
            until=record[UNTIL],
            windows=tuple(
                TimeWindow(frozenset(day for day in range(7) if days >> day & 1), start, end)
                for days, start, end in record[WINDOWS]
            ),
            file=record[FILE],
            line=record[LINE],
        )

    def fill(self, rules: Iterable[Rule]) -> None:
        """Index these rules. Raises InputRejected for too many rules, or a rule that is too long or invalid."""
        chosen = sorted(rules, key=_order)
        if len(chosen) > RULES_MOST:
            raise InputRejected(f"{len(chosen)} rules, the limit is {RULES_MOST}", "merge rules by groups and zones")
        person_numbers: dict[frozenset[str], int] = {frozenset(): 0}
        place_numbers: dict[tuple[tuple[str, Network], ...], int] = {(): 0}
        named: dict[frozenset[str], _RuleMask] = {}
        excepted: dict[frozenset[str], _RuleMask] = {}
        places: dict[tuple[tuple[str, Network], ...], _RuleMask] = {}
        ports: dict[Ranges, _RuleMask] = {}
        everyone, deny, conditional = _RuleMask(), _RuleMask(), _RuleMask()
        for number, rule in enumerate(chosen):
            _check(rule)
            if rule.everyone:
                everyone.add(number)
            if not rule.allow:
                deny.add(number)
            if rule.sources or rule.windows or rule.until is not None:
                conditional.add(number)
            named.setdefault(rule.persons, _RuleMask()).add(number)
            excepted.setdefault(rule.excepted, _RuleMask()).add(number)
            places.setdefault(rule.to, _RuleMask()).add(number)
            ports.setdefault(merge_ranges(rule.ports), _RuleMask()).add(number)
            for persons in (rule.persons, rule.excepted):
                if persons not in person_numbers:
                    for fault in filter(None, map(name_fault, persons)):
                        raise InputRejected(f"the rule '{rule.name}': {fault}", "rename the person")
                    person_numbers[persons] = len(self.person_sets)
                    self.person_sets.append(" ".join(sorted(persons)))
            if rule.to not in place_numbers:
                place_numbers[rule.to] = len(self.place_sets)
                self.place_sets.append(" ".join(f"{zone} {net}" for zone, net in rule.to))
            text = _line(rule, person_numbers[rule.persons], person_numbers[rule.excepted], place_numbers[rule.to])
            if max(len(text), len(self.place_sets[-1]), len(self.person_sets[-1])) > LINE_MOST - 64:
                raise InputRejected(
                    f"the rule '{rule.name}' names too many places or persons", "use zones and everyone"
                )
            self.rules.append(text)
        self.everyone, self.deny, self.conditional = everyone.mask(), deny.mask(), conditional.mask()
        self._fill_persons(named, excepted)
        self._fill_places(places)
        self._fill_ports(ports)
        size = sum(mask.bit_length() for mask in (*self.persons.values(), *self.port_masks)) // 8
        size += sum(mask.bit_length() for *_, mask in self.places()) // 8
        if size > INDEX_MOST:
            raise InputRejected(f"the rules need an index of {size >> 20} MiB", "merge rules by groups and zones")

    def _fill_persons(
        self, named: "dict[frozenset[str], _RuleMask]", excepted: "dict[frozenset[str], _RuleMask]"
    ) -> None:
        for persons, bits in named.items():
            mask = bits.mask()
            for person in persons:
                self.persons[person] = self.persons.get(person, self.everyone) | mask
        for persons, bits in excepted.items():
            mask = bits.mask()
            for person in persons:
                self.persons[person] = self.persons.get(person, self.everyone) & ~mask
        self.persons = dict(sorted(self.persons.items()))  # sets have no stable order

    def _fill_places(self, places: "dict[tuple[tuple[str, Network], ...], _RuleMask]") -> None:
        for pairs, bits in places.items():
            mask = bits.mask()
            for zone, net in pairs:
                shift = net.max_prefixlen - net.prefixlen
                prefix = int(net.network_address) >> shift
                before = self._places.get((zone, net.version), {}).get(shift, {}).get(prefix, 0)
                self.add_place(zone, net.version, shift, prefix, before | mask)

    def _fill_ports(self, ports: "dict[Ranges, _RuleMask]") -> None:
        changes: dict[int, int] = {}  # for each port, the rules whose range begins or ends there
        for ranges, bits in ports.items():
            mask = bits.mask()
            for low, high in ranges:
                changes[low] = changes.get(low, 0) ^ mask
                changes[high + 1] = changes.get(high + 1, 0) ^ mask
        running = 0
        for port in sorted(changes):
            running ^= changes[port]
            self.port_starts.append(port)
            self.port_masks.append(running)


class _RuleMask:
    """A mask under construction: setting a bit of a Python integer would copy the whole integer each time."""

    __slots__ = ("_bytes",)

    def __init__(self) -> None:
        self._bytes = bytearray()

    def add(self, number: int) -> None:
        at = number >> 3
        if at >= len(self._bytes):
            self._bytes.extend(bytes(at + 1 - len(self._bytes)))
        self._bytes[at] |= 1 << (number & 7)

    def mask(self) -> int:
        return int.from_bytes(self._bytes, "little")


def failed_condition(record: Sequence, source: Address | None, now: int, local_now: int) -> str:  # type: ignore[type-arg]  # a JSON row
    """The first condition of a rule's record that does not hold: "until", "from" or "hours"; "" if all hold."""
    until = record[UNTIL]
    if until is not None and now >= until:
        return "until"
    if record[SOURCES]:
        if source is None:
            return "from"
        version, value = source.version, int(source)
        if not any(family == version and value >> shift == prefix for family, shift, prefix in record[SOURCES]):
            return "from"
    if record[WINDOWS] and not any(
        time_conditions.inside(days, start, end, local_now) for days, start, end in record[WINDOWS]
    ):
        return "hours"
    return ""


def network(version: int, shift: int, prefix: int) -> Network:
    """The network of the addresses with `address >> shift == prefix`."""
    if version == 4:
        return IPv4Network((prefix << shift, 32 - shift))
    return IPv6Network((prefix << shift, 128 - shift))


def merge_ranges(ports: Iterable[tuple[int, int]]) -> Ranges:
    """The same ports as sorted ranges that neither overlap nor touch."""
    ranges: list[tuple[int, int]] = []
    for low, high in sorted(ports):
        if ranges and low <= ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], max(high, ranges[-1][1]))
        else:
            ranges.append((low, high))
    return tuple(ranges)


def rule_numbers(mask: int) -> Iterator[int]:
    """The numbers of the rules in a mask, in ascending order."""
    while mask:
        bit = mask & -mask
        yield bit.bit_length() - 1
        mask ^= bit


def _line(rule: Rule, persons: int, excepted: int, to: int) -> str:
    sources = [
        (net.version, net.max_prefixlen - net.prefixlen, int(net.network_address) >> net.max_prefixlen - net.prefixlen)
        for net in rule.sources
    ]
    windows = [(time_conditions.days_mask(window), window.start, window.end) for window in rule.windows]
    record = (rule.name, rule.allow, rule.file, rule.line, persons, rule.everyone, excepted, to, rule.ports)
    return json.dumps(["rule", *record, sources, rule.until, windows], separators=(",", ":"))


def _check(rule: Rule) -> None:
    if not all(0 < low <= high < 65536 for low, high in rule.ports):
        raise InputRejected(f"the rule '{rule.name}' has invalid ports", "a port is a number from 1 to 65535")
    if any(not 0 <= window.start < 1440 or not 0 <= window.end <= 1440 for window in rule.windows):
        raise InputRejected(f"the rule '{rule.name}' has invalid hours", "hours go from 00:00 to 24:00")
    if any(not window.days <= frozenset(range(7)) for window in rule.windows):
        raise InputRejected(f"the rule '{rule.name}' has invalid days", "days are numbered 0 to 6")


def _order(rule: Rule) -> tuple[object, ...]:
    return (
        *(rule.file, rule.line, rule.name, rule.allow, rule.everyone, rule.until is None, rule.until or 0, rule.ports),
        *(sorted(rule.persons), sorted(rule.excepted), [f"{zone} {net}" for zone, net in rule.to]),
        *([str(net) for net in rule.sources], [(sorted(w.days), w.start, w.end) for w in rule.windows]),
    )

"""The split of an event's fields into columns and dictionary entries, and the way back.

Client (`who`), target and the other fields (`rest`) repeat and are stored once each, as JSON. Ids take seven bytes. The
numbers of a forward have columns of their own, so that SQL can add them up. Every field is read back exactly as it was,
with its type: a value that fits no column stays in the JSON.
"""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from ipaddress import IPv4Network, IPv6Network, ip_address

from relay.core import ids
from relay.core.audit.event import Event, Value
from relay.core.audit.hash_chain import compact

WHO = ("person", "login", "credential", "fingerprint", "expires", "client", "client_version")
TARGET = ("asked", "zone", "address", "port", "rule", "rule_at", "policy")
IDS = ("connection", "forward")
NUMBERS = ("client_port", "sent", "received", "duration")
_ABSENT = object()  # a field that is None is another text
SAME = 1  # in place of a forward's id that is the event's own
_SHARED = frozenset(("worker", "reason", "obstacle", "kind"))  # few different words: what repeats, and is stored once
_SMALL = frozenset(("forwards", "count"))  # numbers that are small nearly always
_SHARED_LONGEST = 200  # characters; a longer text would not repeat
_LARGEST = 1 << 63  # SQLite's integers


def part(fields: Mapping[str, Value], keys: tuple[str, ...]) -> str | None:
    """The canonical text of those of `keys` that `fields` has, None when it has none."""
    chosen = {key: fields[key] for key in keys if key in fields}
    return compact(chosen) if chosen else None


def place(table: str, fields: Mapping[str, Value], keys: tuple[str, ...]) -> tuple[object, ...]:
    """A key of the part that is cheaper than its text: equal keys mean equal texts."""
    get = fields.get
    values = [get(key, _ABSENT) for key in keys]
    # 1 equals True, and its text does not
    return table, *((value, type(value)) if isinstance(value, bool) else value for value in values)


def columns(event: Event) -> tuple[bytes | str | int | None, ...]:
    """The values of the columns IDS and NUMBERS; None where the field is absent or stays in the JSON."""
    get = event.fields.get
    connection, forward = get("connection"), get("forward")
    return (
        kept(connection) if isinstance(connection, str) else None,
        SAME if forward == event.id else kept(forward) if isinstance(forward, str) else None,
        *[value if type(value) is int and -_LARGEST <= value < _LARGEST else None for value in map(get, NUMBERS)],
    )


def has_column(key: str, value: Value) -> bool:
    """Whether a value of this one of IDS and NUMBERS goes into its column; another one stays in the JSON."""
    if key in IDS:
        return isinstance(value, str)
    return type(value) is int and -_LARGEST <= value < _LARGEST


def rest(fields: Mapping[str, Value], placed: Sequence[object]) -> tuple[str, bool]:
    """The canonical text of the fields that have no other place (`placed`: `columns`), and whether it repeats."""
    has = {key for key, value in zip((*IDS, *NUMBERS), placed, strict=True) if value is not None}
    left = {key: value for key, value in fields.items() if key not in WHO and key not in TARGET and key not in has}
    text = compact(left)
    repeats = len(text) <= _SHARED_LONGEST and all(
        value in ("", None)
        or (key in _SHARED and isinstance(value, str))
        or (key in _SMALL and type(value) is int and 0 <= value < 20)
        for key, value in left.items()
    )
    return text, repeats


def joined(texts: Sequence[str | None], event_id: str, placed: Sequence[bytes | str | int | None]) -> dict[str, Value]:
    """The fields as they were: `texts` are JSON objects. Raises ValueError when one of them is none."""
    fields: dict[str, Value] = {}
    for text in texts:
        if text is not None:
            fields.update(_loaded(text))
    connection, forward, *numbers = placed
    if connection is not None:
        fields["connection"] = told(connection)
    if forward is not None:
        fields["forward"] = event_id if forward == SAME else told(forward)
    found = zip(NUMBERS, numbers, strict=True)
    fields.update((key, value) for key, value in found if isinstance(value, int))
    return fields


@lru_cache(maxsize=2048)  # whoever reads many rows meets the same people and targets again: twice as fast
def _loaded(text: str) -> dict[str, Value]:
    loaded = json.loads(text)
    if not isinstance(loaded, dict):
        raise ValueError(text[:40])
    return loaded


def kept(id: str) -> bytes | str:
    """An id as the database has it: seven bytes, or the text as it is where it is none of ours."""
    return ids.packed(id) or id


def told(id: object) -> str:
    """The id of a stored value. Raises ValueError for a value that `kept` does not make: no search would find it."""
    if isinstance(id, bytes) and len(id) == 7 and id[0] < 128:  # 55 bits
        return ids.unpacked(id)
    if isinstance(id, str) and ids.packed(id) is None:
        return id
    raise ValueError(f"{id!r} is not an id")


def short_digest(text: str) -> bytes:
    """The first half of the SHA-256 of a dictionary's text, which identifies it."""
    return sha256(text.encode()).digest()[:16]


def address_key(value: Value) -> bytes | None:
    """Family and address as bytes, so that a network is one range of bytes. None if it is not an address."""
    if not isinstance(value, str):
        return None
    try:
        address = ip_address(value)
    except ValueError:
        return None
    return bytes([address.version]) + address.packed


def network_keys(network: IPv4Network | IPv6Network) -> tuple[bytes, bytes]:
    """First and last key of a network's addresses."""
    family = bytes([network.version])
    return family + network.network_address.packed, family + network.broadcast_address.packed

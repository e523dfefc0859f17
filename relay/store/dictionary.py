"""How are an event's fields laid out in the database, and how do they come together again?

Three parts: who, target, and the rest; the first two repeat and are stored once (see migrations.py). Every field
comes back exactly as it was, types included, because each part is JSON; the columns beside it are for searching only.
"""

import json
from collections.abc import Mapping
from hashlib import sha256
from ipaddress import IPv4Network, IPv6Network, ip_address

from relay.core.chain import compact
from relay.core.event import Value

WHO = ("person", "login", "credential", "fingerprint", "expires", "client", "client_version")
TARGET = ("asked", "zone", "address", "port", "rule", "rule_at", "policy")
COLUMNS = ("connection", "forward")  # short texts of their own in the row


def part(fields: Mapping[str, Value], keys: tuple[str, ...]) -> str | None:
    """The canonical text of those of `keys` that `fields` has, None when it has none."""
    chosen = {key: fields[key] for key in keys if key in fields}
    return compact(chosen) if chosen else None


def rest(fields: Mapping[str, Value]) -> str:
    """The canonical text of what stands in neither dictionary nor column."""
    return compact(
        {
            key: value
            for key, value in fields.items()
            if key not in WHO and key not in TARGET and not (key in COLUMNS and isinstance(value, str))
        }
    )


def joined(
    who: str | None, target: str | None, connection: str | None, forward: str | None, other: str
) -> dict[str, Value]:
    """The fields as they were. Raises ValueError when one of the texts is no JSON object."""
    fields: dict[str, Value] = {}
    for text in (who, target, other):
        if text is not None:
            loaded = json.loads(text)
            if not isinstance(loaded, dict):
                raise ValueError(text[:40])
            fields.update(loaded)
    if connection is not None:
        fields["connection"] = connection
    if forward is not None:
        fields["forward"] = forward
    return fields


def short_digest(text: str) -> bytes:
    """Tells two texts of a dictionary apart in half the space."""
    return sha256(text.encode()).digest()[:16]


def address_key(value: Value) -> bytes | None:
    """An address so that one range of bytes is one network: family, then the address. None if it is none."""
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

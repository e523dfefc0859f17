"""The canonical text of an audit row, and the hash chain that links each row to the one before it.

A row's canonical text is one line of JSON: keys sorted, no spaces, UTF-8 as it is. Its hash is the SHA-256 of the
predecessor's hash in hexadecimal, a line feed, and that text; the first row's predecessor is GENESIS. Standard tools
can recompute it: `printf '%s\n%s' PREV TEXT | sha256sum`.
"""

import json
from dataclasses import dataclass
from hashlib import sha256

from relay.core.audit.event import SCHEMA, Event, Value

GENESIS = "0" * 64


@dataclass(frozen=True, slots=True)
class Row:
    """An event and its place in the log. `prev` and `hash` are 64 hexadecimal digits."""

    node: str
    seq: int  # 1 for the first row of a database, no gaps
    prev: str
    hash: str
    event: Event
    schema: int = SCHEMA


# json.dumps would construct an encoder for each text, and there are four texts for each row
_JSON = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


def compact(value: dict[str, Value]) -> str:
    """`value` as canonical JSON: keys sorted, no spaces, characters as they are."""
    return _JSON.encode(value)


def canonical(node: str, seq: int, event: Event, schema: int = SCHEMA) -> str:
    """The text that a row's hash covers."""
    return _JSON.encode(
        {
            "fields": dict(event.fields),
            "id": event.id,
            "name": event.name,
            "node": node,
            "schema": schema,
            "seq": seq,
            "time": event.time,
        }
    )


def digest(prev: str, text: str) -> str:
    """The hash of a row with this canonical text that follows the row with hash `prev`."""
    return sha256(f"{prev}\n{text}".encode()).hexdigest()


def link(node: str, seq: int, prev: str, event: Event) -> Row:
    """The row that records `event` and follows the row with hash `prev`."""
    return Row(node, seq, prev, digest(prev, canonical(node, seq, event)), event)

"""What does a checkpoint of the audit log say, and what exactly is signed?

A checkpoint is a row like any other (`audit.sealed`), so it stands in the chain. Its signature is an Ed25519 signature
over its statement: a line that says what this is, the hash of the row before it, and its own canonical text without
the signature. The hash of the row before covers every earlier row, so one signature speaks for all of them.

Forward security: each checkpoint is signed by another key (one epoch, one checkpoint), which the checkpoint before it
announced as `next`; the private half is erased when the checkpoint is durable. Who takes the machine has the key of the
epoch that runs, and of none before. A row `audit.key` announces the first key of all, or of a new lineage where the
old one could not go on. docs/audit.md has the sources and the limits.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from relay.core.audit.event import Event, Value
from relay.core.audit.hash_chain import canonical

SEALED = "audit.sealed"
KEY = "audit.key"
DOMAIN = "ssh-jump-relay audit checkpoint 1"  # no other statement signed by anybody begins with this line

Reason = Literal["init", "lost", "restored"]  # why a lineage of keys begins
REASONS: tuple[Reason, ...] = ("init", "lost", "restored")

# (public key, signature, statement) -> whether it is that key's; both as they stand in the row
Proves = Callable[[str, str, bytes], bool]

_KEY = re.compile(r"[A-Za-z0-9+/]{43}=")  # 32 bytes in base64
_SIGNATURE = re.compile(r"[A-Za-z0-9+/]{86}==")  # 64 bytes
# `signature` is never the first field (`count` is before it), and no text inside a row has an unescaped quote
_SIGNED = re.compile(r',"signature":"[A-Za-z0-9+/]{86}=="')


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What one checkpoint says of the rows before it."""

    epoch: int  # its number; the machine's key files know the number, too
    key: str  # public key that signs this one
    next: str  # public key that will sign the next one
    count: int  # rows between the checkpoint before (or the first row of all) and this one
    open: int  # forwards without a closing row
    within: int  # seconds within which the next one follows while the relay serves
    policy: str = ""  # version of what was law
    detail: str = ""  # why it is late, if it is

    def fields(self, signature: str = "") -> dict[str, Value]:
        """The row's fields."""
        fields: dict[str, Value] = {
            "epoch": self.epoch,
            "key": self.key,
            "next": self.next,
            "count": self.count,
            "open": self.open,
            "within": self.within,
        }
        more = {"policy": self.policy, "detail": self.detail, "signature": signature}
        return fields | {key: value for key, value in more.items() if value}


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint as it was read, with what its signature must be of."""

    checkpoint: Checkpoint
    signature: str
    statement: bytes


def statement(prev: str, text: str) -> bytes:
    """What is signed: `text` is the canonical text of the row without its signature."""
    return f"{DOMAIN}\n{prev}\n{text}".encode()


def seal(
    checkpoint: Checkpoint, sign: Callable[[bytes], str], *, node: str, seq: int, prev: str, id: str, time: int
) -> Event:
    """The event that is row `seq` after the row with hash `prev`, signed."""
    bare = Event(id, time, SEALED, checkpoint.fields())
    signature = sign(statement(prev, canonical(node, seq, bare)))
    return Event(id, time, SEALED, checkpoint.fields(signature))


def read(prev: str, text: str, fields: Mapping[str, Any]) -> SignedCheckpoint | None:
    """The checkpoint in the row with this canonical text and these fields; None when it is none that could be proven.

    That is one without a signature, too.
    """
    signature = fields.get("signature")
    bare, found = _SIGNED.subn("", text)
    checkpoint = _checkpoint(fields)
    if checkpoint is None or not isinstance(signature, str) or not _SIGNATURE.fullmatch(signature) or found != 1:
        return None
    return SignedCheckpoint(checkpoint, signature, statement(prev, bare))


def is_key(text: object) -> bool:
    """Whether `text` could be a public key: 32 bytes in base64."""
    return isinstance(text, str) and _KEY.fullmatch(text) is not None


def _checkpoint(fields: Mapping[str, Any]) -> Checkpoint | None:
    numbers = [fields.get(name) for name in ("epoch", "count", "open", "within")]
    keys = [fields.get(name) for name in ("key", "next")]
    if any(type(number) is not int or number < 0 for number in numbers) or not all(is_key(key) for key in keys):
        return None
    return Checkpoint(
        epoch=fields["epoch"],
        key=fields["key"],
        next=fields["next"],
        count=fields["count"],
        open=fields["open"],
        within=fields["within"],
        policy=str(fields.get("policy") or ""),
        detail=str(fields.get("detail") or ""),
    )


def fields_of(text: str) -> Mapping[str, Any]:
    """The fields of a row, from its canonical text; empty where it is none."""
    try:
        loaded = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    fields = loaded.get("fields") if isinstance(loaded, dict) else None
    return fields if isinstance(fields, dict) else {}

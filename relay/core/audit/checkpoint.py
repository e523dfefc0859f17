"""Checkpoints of the audit log: their fields, their signed statement and their signature.

A checkpoint is a row of the chain (`audit.sealed`). Its signature is an Ed25519 signature
over its statement: a fixed line, the hash of the preceding row, and its own canonical text without the signature. That
hash covers every earlier row, so one signature authenticates all of them.

Forward security: each checkpoint is signed by its own key (its epoch's), which the preceding checkpoint announced as
`next`; the private key is erased when the checkpoint is durable. An attacker who takes the machine gets the key of the
current epoch and none before it. A row `audit.key` announces the first key, or a new one where the chain of keys
could not continue. docs/background/audit-log.md has the sources and the limits.
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
DOMAIN = "ssh-jump-relay audit checkpoint 1"  # domain separation: no other signed statement begins with this line

Reason = Literal["init", "lost", "restored"]  # why a chain of keys begins
REASONS: tuple[Reason, ...] = ("init", "lost", "restored")

# (public key, signature, statement) -> whether the signature is valid; key and signature in base64
Proves = Callable[[str, str, bytes], bool]

_KEY = re.compile(r"[A-Za-z0-9+/]{43}=")  # 32 bytes in base64
_SIGNATURE = re.compile(r"[A-Za-z0-9+/]{86}==")  # 64 bytes
# `signature` is never the first field (`count` precedes it), and no text inside a row has an unescaped quote
_SIGNED = re.compile(r',"signature":"[A-Za-z0-9+/]{86}=="')


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The fields of a checkpoint."""

    epoch: int  # its number, which the machine's key files have as well
    key: str  # public key that signs this one
    next: str  # public key that will sign the next one
    count: int  # rows since the preceding checkpoint, or since the first row
    open: int  # forwards without a closing row
    within: int  # seconds within which the next checkpoint follows while the relay serves
    policy: str = ""  # version of the running policy
    detail: str = ""  # why it is late, if so

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
    """A checkpoint as read from a row, with its signature and the signed statement."""

    checkpoint: Checkpoint
    signature: str
    statement: bytes


def statement(prev: str, text: str) -> bytes:
    """The signed bytes; `text` is the row's canonical text without its signature."""
    return f"{DOMAIN}\n{prev}\n{text}".encode()


def seal(
    checkpoint: Checkpoint, sign: Callable[[bytes], str], *, node: str, seq: int, prev: str, id: str, time: int
) -> Event:
    """The event that is row `seq` after the row with hash `prev`, signed."""
    bare = Event(id, time, SEALED, checkpoint.fields())
    signature = sign(statement(prev, canonical(node, seq, bare)))
    return Event(id, time, SEALED, checkpoint.fields(signature))


def read(prev: str, text: str, fields: Mapping[str, Any]) -> SignedCheckpoint | None:
    """The checkpoint in a row with this canonical text and these fields; None for an invalid or unsigned one."""
    signature = fields.get("signature")
    bare, signatures = _SIGNED.subn("", text)
    checkpoint = _checkpoint(fields)
    if checkpoint is None or not isinstance(signature, str) or not _SIGNATURE.fullmatch(signature) or signatures != 1:
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
    """The fields in a row's canonical text; empty for an invalid text."""
    try:
        loaded = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    fields = loaded.get("fields") if isinstance(loaded, dict) else None
    return fields if isinstance(fields, dict) else {}

"""The last checkpoint and the key that signs next, and a new sequence of signing keys that a command begins.

A running relay begins a sequence by itself (serve.supervisor.audit.checkpoint_signer).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from relay.core.audit import checkpoint
from relay.core.audit.audit_query import AuditQuery
from relay.core.audit.checkpoint import Reason
from relay.core.audit.event import Event, Value
from relay.store import signing_key
from relay.store.reader import AuditReader
from relay.store.signing_key import SigningKey
from relay.store.writer import AuditWriter


@dataclass(frozen=True, slots=True)
class CheckpointState:
    """The last row, the last checkpoint and the next key of a log."""

    head: int  # number of the last row
    sealed: int  # of the last checkpoint; of the last archived row, which is one too, where no other is here
    time: int = 0  # of that checkpoint, UTC microseconds; 0: not here
    within: int = 0  # seconds in which it promised another one
    key: str = ""  # public key that signs next; "": no row here announces one
    epoch: int = 0  # of that key


def standing(reader: AuditReader) -> CheckpointState:
    """The state of the log that `reader` reads. Raises StoreUnavailable."""
    head, base = reader.head(), reader.base()[0]
    sealed = next(iter(reader.search(AuditQuery(name=checkpoint.SEALED), limit=1)), None)
    begun = next(iter(reader.search(AuditQuery(name=checkpoint.KEY), limit=1)), None)
    found = CheckpointState(head, sealed.seq if sealed else base)
    if sealed is not None:
        fields = sealed.event.fields
        epoch, within, key = fields.get("epoch"), fields.get("within"), fields.get("next")
        if isinstance(epoch, int) and isinstance(within, int):
            found = CheckpointState(head, sealed.seq, sealed.event.time, within, str(key), epoch + 1)
    if begun is not None and begun.seq > (sealed.seq if sealed else 0):
        epoch = begun.event.fields.get("epoch")
        if isinstance(epoch, int):
            key = str(begun.event.fields.get("key"))
            found = CheckpointState(head, found.sealed, found.time, found.within, key, epoch)
    return found


def begin(
    state: Path,
    database: Path,
    *,
    node: str,
    reason: Reason,
    event: Callable[[str, Mapping[str, Value]], Event],
    before: Sequence[Event] = (),
) -> SigningKey:
    """Create a key in `state` and announce it in `database`, after the rows `before`; other keys are not erased.

    The key's epoch is beyond all earlier ones, so that a leftover key shows the length of the log.
    Raises StoreUnavailable, OSError.
    """
    writer = AuditWriter(database, node)
    try:
        with AuditReader(database) as reader:
            epoch = standing(reader).epoch
        known = signing_key.seen(state) or {}
        signer = signing_key.make(state, max((epoch, *known.values())) + 1)
        announced = event(checkpoint.KEY, {"key": signer.public, "epoch": signer.epoch, "reason": reason})
        writer.append([*before, announced])
    finally:
        writer.close()
    return signer

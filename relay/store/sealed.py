"""Up to where is the audit log sealed, and which key must sign next?"""

from dataclasses import dataclass

from relay.core import seal
from relay.core.question import Question
from relay.store.reader import Reader


@dataclass(frozen=True, slots=True)
class Standing:
    """How the log stands."""

    head: int  # number of the last row
    sealed: int  # of the last checkpoint; of the last archived row, which is one too, where no other is here
    time: int = 0  # of that checkpoint, UTC microseconds; 0: not here
    within: int = 0  # seconds in which it promised another one
    key: str = ""  # public key that signs next; "": no row here announces one
    epoch: int = 0  # of that key


def standing(reader: Reader) -> Standing:
    """Raises StoreUnavailable."""
    head, base = reader.head(), reader.base()[0]
    sealed = next(iter(reader.search(Question(name=seal.SEALED), limit=1)), None)
    begun = next(iter(reader.search(Question(name=seal.KEY), limit=1)), None)
    found = Standing(head, sealed.seq if sealed else base)
    if sealed is not None:
        fields = sealed.event.fields
        epoch, within, key = fields.get("epoch"), fields.get("within"), fields.get("next")
        if isinstance(epoch, int) and isinstance(within, int):
            found = Standing(head, sealed.seq, sealed.event.time, within, str(key), epoch + 1)
    if begun is not None and begun.seq > (sealed.seq if sealed else 0):
        epoch = begun.event.fields.get("epoch")
        if isinstance(epoch, int):
            key = str(begun.event.fields.get("key"))
            found = Standing(head, found.sealed, found.time, found.within, key, epoch)
    return found

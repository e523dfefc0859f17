"""An independent check of rows' hash chain, for tests of the writer and the reader."""

from collections.abc import Iterable
from dataclasses import dataclass

from relay.core.audit.hash_chain import GENESIS, Row, canonical, digest


@dataclass(frozen=True, slots=True)
class ChainBreak:
    """The first row at which a chain does not hold, and the reason."""

    seq: int
    what: str


def first_break(rows: Iterable[Row], prev: str = GENESIS, seq: int = 0) -> ChainBreak | None:
    """The first break in `rows`, which follow row `seq` with hash `prev`; None if the chain holds."""
    for row in rows:
        seq += 1
        if row.seq != seq:
            return ChainBreak(seq, f"row {seq} is missing, row {row.seq} follows")
        if row.prev != prev:
            return ChainBreak(seq, f"row {seq} does not follow the row before it")
        if digest(prev, canonical(row.node, row.seq, row.event, row.schema)) != row.hash:
            return ChainBreak(seq, f"row {seq} is not what was written")
        prev = row.hash
    return None

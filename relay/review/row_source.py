"""What does a review need of the place where the audit rows are?"""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Protocol

from relay.core.audit.audit_query import AuditQuery
from relay.core.audit.hash_chain import Row
from relay.core.audit.usage_totals import TotalsPart


class Attempts(Protocol):
    """How often strangers of one prefix did one thing in one minute, with the last attempt as a sample."""

    @property
    def minute(self) -> int: ...
    @property
    def prefix(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def count(self) -> int: ...
    @property
    def reference(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def login(self) -> str: ...


class RowSource(Protocol):
    """`relay.store.reader.Reader` is one. Every method may raise StoreUnavailable."""

    def head(self) -> int:
        """The number of the last row, 0 when there is none."""

    def after(self, seq: int, limit: int = 500) -> list[Row]:
        """The rows behind row `seq`, oldest first."""

    def search(self, question: AuditQuery, before: int | None = None, limit: int = 100) -> list[Row]:
        """Rows that answer `question`, newest first, all before row `before`."""

    def portions(self, question: AuditQuery, by: str, progress: Callable[[float], object]) -> Iterator[TotalsPart]:
        """What the rows that answer come to, in parts of one group each; `progress` is told the share that is done."""

    def by_id(self, id: str) -> Row | None:
        """The row of the event with this id."""

    def by_connection(self, connection: str, limit: int = 10_000) -> list[Row]:
        """The rows of one connection, oldest first."""

    def by_forward(self, forward: str) -> list[Row]:
        """The opening and the closing row of one forward."""

    def by_forwards(self, forwards: Collection[str]) -> dict[str, list[Row]]:
        """The same of many forwards, by forward; one of which there is no row is left out."""

    def nearest(self, id: str) -> str | None:
        """The id that is most like one that does not exist."""

    def persons(self) -> list[str]:
        """Everybody who is in the log, sorted."""

    def strangers(self, first_minute: int, last_minute: int) -> Sequence[Attempts]:
        """The counts of strangers in these minutes, oldest first."""

    def stranger(self, reference: str) -> Attempts | None:
        """The count whose last attempt was told this reference id."""

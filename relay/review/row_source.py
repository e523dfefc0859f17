"""The protocol of a place that holds audit rows."""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Protocol

from relay.core.audit.audit_query import AuditQuery
from relay.core.audit.hash_chain import Row
from relay.core.audit.usage_totals import TotalsPart


class Attempts(Protocol):
    """Attempts of one kind from one prefix in one minute, with the last attempt as a sample."""

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
    """A place that holds audit rows, such as `AuditReader`. Every method may raise StoreUnavailable."""

    def head(self) -> int:
        """The number of the last row, 0 when there is none."""

    def after(self, seq: int, limit: int = 500) -> list[Row]:
        """The rows behind row `seq`, oldest first."""

    def search(self, question: AuditQuery, before: int | None = None, limit: int = 100) -> list[Row]:
        """Rows that match `question`, newest first, all before row `before`."""

    def portions(self, question: AuditQuery, by: str, progress: Callable[[float], object]) -> Iterator[TotalsPart]:
        """Totals of the matching rows, in parts of one group each; `progress` is called with the share done."""

    def by_id(self, id: str) -> Row | None:
        """The row of the event with this id."""

    def by_connection(self, connection: str, limit: int = 10_000) -> list[Row]:
        """The rows of one connection, oldest first."""

    def by_forward(self, forward: str) -> list[Row]:
        """The opening and the closing row of one forward."""

    def by_forwards(self, forwards: Collection[str]) -> dict[str, list[Row]]:
        """The rows of many forwards, by forward; a forward without a row is omitted."""

    def nearest(self, id: str) -> str | None:
        """The id nearest to an unknown one."""

    def persons(self) -> list[str]:
        """The persons in the log, sorted."""

    def strangers(self, first_minute: int, last_minute: int) -> Sequence[Attempts]:
        """The attempt counts of these minutes, oldest first."""

    def stranger(self, reference: str) -> Attempts | None:
        """The attempt count whose last attempt got this reference id."""

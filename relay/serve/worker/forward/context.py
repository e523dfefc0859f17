"""What sessions and forwards need of their worker, as one value."""

from collections.abc import Callable
from dataclasses import dataclass

from relay.core.policy.model import Address
from relay.serve.authorizer import Authorizer
from relay.serve.worker.audit_client import AuditClient
from relay.serve.worker.forward.read_pacing import ReadPacer
from relay.serve.worker.limit_share import LimitShare
from relay.serve.worker.ssh.fastpath.to_client import ClientWriter
from relay.serve.worker.statistics import WorkerStatistics


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """The parts of a worker that all its sessions and forwards share."""

    worker: str  # its name, as it stands in rows
    authorizer: Authorizer
    audit: AuditClient
    limits: LimitShare
    statistics: WorkerStatistics
    pacer: ReadPacer
    writer: ClientWriter
    owns_address: Callable[[int, Address], bool]  # whether the interface of that index has that address
    make_id: Callable[[], str]
    now_us: Callable[[], int]  # UTC microseconds

    def now(self) -> int:
        """Unix seconds."""
        return self.now_us() // 1_000_000

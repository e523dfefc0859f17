"""The table of open forwards: each opening row gets exactly one closing row, also when a worker or supervisor dies.

The forwards of a worker that has ended are closed here. Those that an earlier supervisor left open are kept until
their worker has joined this supervisor or has ended.
"""

import asyncio
from collections.abc import Callable, Mapping

from relay.core.audit.event import Event
from relay.core.settings import Limits
from relay.serve.ipc import Message
from relay.serve.supervisor.audit.audit_log import AuditLog
from relay.serve.supervisor.limits.session_limits import SessionLimits
from relay.serve.supervisor.limits.session_slots import ForwardSlot, ForwardSlots
from relay.serve.supervisor.worker_pool import WorkerHandle, WorkerPool

ORPHAN_SECONDS = 0.2  # between two checks for forwards of an earlier supervisor
ACK_SECONDS = 0.1  # the longest that an acknowledgement waits for others; the worker keeps its row until then
LOST_WORKER_SECONDS = 0.1  # between two checks of a worker whose link broke


class OpenForwards:
    """All open forwards of the relay."""

    def __init__(
        self,
        workers: WorkerPool,
        audit: AuditLog,
        limits: Callable[[], Limits],
        *,
        slots: ForwardSlots,
        session_limits: SessionLimits,
    ) -> None:
        self.session_limits = session_limits
        self._workers = workers
        self._audit = audit
        self._limits = limits
        self.slots = slots
        self._orphans: dict[str, str] = {}  # open forwards of an earlier supervisor -> their worker

    def inherit(self, unclosed: Mapping[str, Event]) -> None:
        """Take over the opening rows without a closing row that an earlier supervisor left."""
        self._orphans = {number: str(event.fields.get("worker", "")) for number, event in unclosed.items()}

    def holding(self, worker: WorkerHandle, message: Message) -> None:
        """Count a forward that a worker already had when it joined, even over the limit."""
        slot = ForwardSlot(worker.name, message["c"], message["person"], message["key"], message["target"])
        self.slots.take(message["f"], slot, None)

    def open(self, worker: WorkerHandle, event: Event) -> None:
        """Write the opening row of a forward; the worker is told when the row is durable, or why it is refused."""
        fields = event.fields
        target = f"{fields['zone']} {fields['address']}:{fields['port']}"
        slot = ForwardSlot(
            worker.name, str(fields["connection"]), str(fields["person"]), str(fields["fingerprint"]), target
        )
        if slot.connection in self.session_limits.sessions:
            problem = self.slots.take(event.id, slot, self._limits())
        else:  # a connection over its person's or key's limit, which is about to be dropped
            problem = "connection: its person or key has as many connections as it may"
        if problem:
            limit = problem.partition(" ")[0].rstrip(":")
            kind = "connections" if limit == "connection" else f"forwards_per_{limit}"
            self.session_limits.reached(kind, problem, fields)
            worker.link.send({"t": "busy", "f": event.id, "reason": problem, "limit": limit})
            return

        def written(problem: str) -> None:
            if problem:
                self.slots.free(event.id)
                worker.link.send({"t": "busy", "f": event.id, "reason": problem})
            else:
                worker.link.send({"t": "opened", "f": event.id})

        self._audit.opening(event, written)

    def note(self, worker: WorkerHandle, event: Event) -> None:
        """Write a row for a worker, and acknowledge it when it is durable."""
        if event.name == "forward.closed":
            self.slots.free(str(event.fields.get("forward")))
        self._audit.event(event, lambda problem: worker.link.acknowledge(event.id, ACK_SECONDS))

    async def close_lost(self, worker: WorkerHandle, connections: Mapping[str, tuple[str, str]]) -> None:
        """Once a worker whose link broke has ended, close its forwards and its `connections` (person and key of each).

        Does nothing if it joins again: then it has reported what it still holds.
        """
        while self._workers.alive(worker.name):  # its lock is released a moment after its sockets are closed
            if worker.name in self._workers.members:
                return
            await asyncio.sleep(LOST_WORKER_SECONDS)
        self._workers.forget(worker.name)
        for number in [number for number, slot in self.slots.held.items() if slot.worker == worker.name]:
            self._closed_with_worker(number)
            self.slots.free(number)
        for connection, (person, key) in connections.items():
            subject = {"connection": connection, "person": person, "fingerprint": key, "worker": worker.name}
            self._audit.note("connection.closed", {**subject, "reason": "worker-lost"})

    async def settle_orphans(self) -> None:
        """Wait until each forward of an earlier supervisor is held by a worker that joined, or is closed."""
        while self._orphans:
            await asyncio.sleep(ORPHAN_SECONDS)
            for forward, worker in tuple(self._orphans.items()):
                if forward in self.slots.held:
                    del self._orphans[forward]
                elif not self._workers.alive(worker):
                    del self._orphans[forward]
                    self._closed_with_worker(forward)
                elif worker in self._workers.members and self._workers.members[worker].ready:
                    del self._orphans[forward]  # its closing row is among those that the worker sends again

    def _closed_with_worker(self, forward: str) -> None:
        self._audit.note("forward.closed", {"forward": forward, "reason": "worker-lost"})

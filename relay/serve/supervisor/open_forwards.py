"""Which forwards are open, in which worker, and is each closed exactly once? The slots are kept here.

A worker that is gone has its forwards closed here; those of an earlier supervisor's workers are waited for.
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

LOOK_SECONDS = 0.2  # how often forwards of an earlier supervisor are looked for
ACK_SECONDS = 0.1  # for which a worker may wait to hear that a row is durable: it keeps it for so long, and no more
DEAD_SECONDS = 0.1  # how often a worker whose link broke is looked at: it may join again, or be gone


class OpenForwards:
    """All open forwards of the relay."""

    def __init__(
        self,
        crew: WorkerPool,
        record: AuditLog,
        limits: Callable[[], Limits],
        *,
        slots: ForwardSlots,
        governor: SessionLimits,
    ) -> None:
        self.governor = governor
        self._crew = crew
        self._record = record
        self._limits = limits
        self.slots = slots
        self._orphans: dict[str, str] = {}  # open forwards of an earlier supervisor -> their worker

    def inherit(self, unclosed: Mapping[str, Event]) -> None:
        """Openings without a closing row, as an earlier supervisor left them."""
        self._orphans = {number: str(event.fields.get("worker", "")) for number, event in unclosed.items()}

    def holding(self, member: WorkerHandle, message: Message) -> None:
        """A worker that has joined says what it carries."""
        slot = ForwardSlot(member.name, message["c"], message["person"], message["key"], message["target"])
        self.slots.take(message["f"], slot, None)

    def open(self, member: WorkerHandle, event: Event) -> None:
        """A worker wants to open one: it is told when the row is durable, or why it cannot be."""
        fields = event.fields
        target = f"{fields['zone']} {fields['address']}:{fields['port']}"
        slot = ForwardSlot(
            member.name, str(fields["connection"]), str(fields["person"]), str(fields["fingerprint"]), target
        )
        if slot.connection in self.governor.guests:
            problem = self.slots.take(event.id, slot, self._limits())
        else:  # it has proven its key and is one too many: its end is on the way
            problem = "connection: its person or key has as many connections as it may"
        if problem:
            limit = problem.partition(" ")[0].rstrip(":")
            kind = "connections" if limit == "connection" else f"forwards_per_{limit}"
            self.governor.reached(kind, problem, fields)
            member.link.send({"t": "busy", "f": event.id, "reason": problem, "limit": limit})
            return

        def answer(problem: str) -> None:
            if problem:
                self.slots.free(event.id)
                member.link.send({"t": "busy", "f": event.id, "reason": problem})
            else:
                member.link.send({"t": "opened", "f": event.id})

        self._record.opening(event, answer)

    def note(self, member: WorkerHandle, event: Event) -> None:
        """A worker has something to record: it is told when it is durable."""
        if event.name == "forward.closed":
            self.slots.free(str(event.fields.get("forward")))
        self._record.event(event, lambda problem: member.link.acknowledge(event.id, ACK_SECONDS))

    async def bury(self, member: WorkerHandle, connections: Mapping[str, tuple[str, str]]) -> None:
        """A worker's link broke: if the process is gone, its forwards and connections get their closing rows now.

        `connections`: of whom each was (person, key).
        """
        while self._crew.alive(member.name):  # the lock goes with the process, a moment after its sockets
            if member.name in self._crew.members:
                return  # only the link was lost: it has joined again and told what it holds
            await asyncio.sleep(DEAD_SECONDS)  # it may still die before it joins again
        self._crew.forget(member.name)
        held = [number for number, slot in self.slots.held.items() if slot.worker == member.name]
        for number in held:
            self._lost(number)
            self.slots.free(number)
        for connection, (person, key) in connections.items():
            who = {"connection": connection, "person": person, "fingerprint": key, "worker": member.name}
            self._record.note("connection.closed", {**who, "reason": "worker-lost"})

    async def settle_orphans(self) -> None:
        """Forwards that an earlier supervisor left open, until none is left: their workers join again, or are gone."""
        while self._orphans:
            await asyncio.sleep(LOOK_SECONDS)
            for forward, worker in tuple(self._orphans.items()):
                if forward in self.slots.held:
                    del self._orphans[forward]
                elif not self._crew.alive(worker):
                    del self._orphans[forward]
                    self._lost(forward)
                elif worker in self._crew.members and self._crew.members[worker].ready:
                    del self._orphans[forward]  # it has told what it holds: its closing row is among those it resends

    def _lost(self, forward: str) -> None:
        self._record.note("forward.closed", {"forward": forward, "reason": "worker-lost"})

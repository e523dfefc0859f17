"""Open forwards: a worker is told after the row is durable, and each opening row gets exactly one closing row."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.core.audit.event import Event
from relay.core.settings import Limits, Settings
from relay.serve.supervisor.admission.acceptor import Acceptor
from relay.serve.supervisor.audit.audit_log import AuditLog
from relay.serve.supervisor.limits.session_limits import SessionLimits
from relay.serve.supervisor.limits.session_slots import ForwardSlots
from relay.serve.supervisor.open_forwards import OpenForwards
from tests.serve.supervisor.linked_worker import LinkedWorker

LIMITS = Limits(forwards_per_person=1)


class Scene:
    """Open forwards over a real audit database, and one worker with the session of alice."""

    def __init__(self, directory: Path) -> None:
        self.database = directory / "audit.db"
        self.worker = LinkedWorker(directory)
        self.audit = AuditLog(Settings, lambda: "")
        self.unclosed = self.audit.open(self.database, "node")
        slots = ForwardSlots()
        acceptor = Acceptor(self.worker.pool, self.audit, Settings)
        self.limits = SessionLimits(
            directory, self.worker.pool, self.audit, acceptor=acceptor, slots=slots, limits=lambda: LIMITS
        )
        self.limits.have({"c": "c1", "person": "alice", "key": "SHA256:a"})
        self.forwards = OpenForwards(
            self.worker.pool, self.audit, lambda: LIMITS, slots=slots, session_limits=self.limits
        )

    def opening(self, connection: str = "c1") -> Event:
        """The opening row of one more forward."""
        number = self.audit.make_id()
        fields = {
            "forward": number,
            "connection": connection,
            "person": "alice",
            "fingerprint": "SHA256:a",
            "client": "192.0.2.1",
            "asked": "remote:22",
            "zone": "office",
            "address": "192.168.1.2",
            "port": 22,
            "rule": "ops",
            "policy": "0011223344556677",
            "worker": "w1",
        }
        return Event(number, self.audit.now_us(), "forward.opened", fields)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """Open forwards with a limit of one for each person."""
    made = Scene(tmp_path)
    yield made
    await made.audit.close()
    made.worker.close()


async def unclosed(scene: Scene) -> set[str]:
    """The opening rows without a closing row, as the next supervisor reads them."""
    await scene.audit.close()
    after = AuditLog(Settings, lambda: "")
    try:
        return set(after.open(scene.database, "node"))
    finally:
        await after.close()


async def test_a_worker_hears_opened_and_then_the_row_is_in_the_database(scene: Scene) -> None:
    """`opened` names the forward, its slot is taken, and the row is what the next supervisor finds unclosed."""
    row = scene.opening()
    scene.forwards.open(scene.worker.handle, row)
    assert (await scene.worker.wait_for("opened"))[0]["f"] == row.id
    assert list(scene.forwards.slots.held) == [row.id]
    assert await unclosed(scene) == {row.id}


async def test_over_the_limit_a_forward_is_busy_and_no_row_is_written(scene: Scene) -> None:
    """The answer names the limit of the person; a connection that was not counted as a session opens nothing."""
    first, second, third = scene.opening(), scene.opening(), scene.opening("unknown")
    for row in (first, second, third):
        scene.forwards.open(scene.worker.handle, row)
    await scene.worker.wait_for("opened")
    busy = await scene.worker.wait_for("busy", 2)
    assert [(message["f"], message["limit"]) for message in busy] == [(second.id, "person"), (third.id, "connection")]
    assert await unclosed(scene) == {first.id}


async def test_the_forwards_of_a_lost_worker_are_closed_once(scene: Scene) -> None:
    """A worker that has ended and does not join again leaves no unclosed row and no taken slot."""
    row = scene.opening()
    scene.forwards.open(scene.worker.handle, row)
    await scene.worker.wait_for("opened")
    del scene.worker.pool.members["w1"]
    await scene.forwards.close_lost(scene.worker.handle, {})
    assert scene.forwards.slots.held == {}
    assert await unclosed(scene) == set()


async def test_forwards_of_an_earlier_supervisor_are_closed_if_their_worker_is_gone(scene: Scene) -> None:
    """An inherited opening row whose worker no longer runs gets its closing row."""
    row = scene.opening()
    scene.forwards.open(scene.worker.handle, row)
    await scene.worker.wait_for("opened")
    scene.forwards.slots.free(row.id)
    scene.forwards.inherit({row.id: row})
    del scene.worker.pool.members["w1"]
    await scene.forwards.settle_orphans()
    assert await unclosed(scene) == set()

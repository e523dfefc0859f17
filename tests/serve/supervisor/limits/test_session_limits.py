"""Session limits: the connection over the limit is dropped, rows are bounded, and a restart forgets no freeze."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.core.audit.event import Event
from relay.core.settings import Limits, Settings
from relay.serve.supervisor.admission.acceptor import Acceptor
from relay.serve.supervisor.limits.session_limits import SessionLimits
from relay.serve.supervisor.limits.session_slots import ForwardSlot, ForwardSlots
from tests.serve.kept import Kept
from tests.serve.supervisor.linked_worker import LinkedWorker


class Scene:
    """Session limits with one worker."""

    def __init__(self, directory: Path, **limits: float) -> None:
        self.worker = LinkedWorker(directory)
        self.audit = Kept()
        self.slots = ForwardSlots()
        self.acceptor = Acceptor(self.worker.pool, self.audit, Settings)
        in_force = Limits(**limits)  # type: ignore[arg-type]  # numbers, as their fields want
        self.limits = SessionLimits(
            directory, self.worker.pool, self.audit, acceptor=self.acceptor, slots=self.slots, limits=lambda: in_force
        )


@pytest.fixture
async def directory(tmp_path: Path) -> AsyncIterator[Path]:
    """STATE/run of these tests."""
    yield tmp_path
    await asyncio.sleep(0)


async def test_the_connection_over_the_limit_is_dropped_and_recorded_once(directory: Path) -> None:
    """The second and third session of a person with one are dropped with a text; one row stands for both."""
    scene = Scene(directory, connections_per_person=1)
    for connection in ("c1", "c2", "c3"):
        scene.limits.proven(scene.worker.handle, {"c": connection, "person": "alice", "key": "SHA256:a"})
    dropped = await scene.worker.wait_for("drop", 2)
    assert [message["c"] for message in dropped] == ["c2", "c3"]
    assert "as many connections open as one person may" in dropped[0]["text"]
    assert scene.audit.names() == ["limit.reached"]
    assert scene.limits.reached_count == 2
    scene.worker.close()


async def test_a_restart_keeps_frozen_keys_and_penalised_sources(directory: Path) -> None:
    """The next supervisor knows both, sends workers the freeze, and reads the penalties once."""
    scene = Scene(directory, scan_targets=2, scan_freeze=600.0)
    for target in ("a:22", "b:22"):
        fields = {
            "connection": "0k3v9x2m4qz",
            "person": "alice",
            "fingerprint": "SHA256:a",
            "client": "192.0.2.1",
            "asked": target,
            "reason": "no-rule",
        }
        scene.limits.recorded(Event("0k3v9x2m4q1", 1, "forward.denied", fields))
    for _ in range(4):
        scene.acceptor.bans.failed("192.0.2.9", "192.0.2.9", "failed")
    scene.limits.save()
    scene.worker.close()
    following = Scene(directory)
    following.limits.load()
    (message,) = await following.worker.wait_for("frozen")
    assert list(message["keys"]) == ["SHA256:a"]
    assert following.acceptor.bans.sources() == ["192.0.2.9"]
    assert sorted(path.name for path in directory.glob("*.json")) == ["frozen.json"]
    following.worker.close()


async def test_unban_lifts_what_it_names_and_lists_what_it_missed(directory: Path) -> None:
    """A penalised source is lifted by its name; another name is missing, and an empty one lifts nothing."""
    scene = Scene(directory)
    for source in ("192.0.2.8", "192.0.2.9"):
        for _ in range(4):
            scene.acceptor.bans.failed(source, source, "failed")
    answer = scene.limits.answer({"do": "unban", "wanted": ["192.0.2.8", "nobody", ""], "by": {}})
    assert (answer["lifted"], answer["missing"]) == (["192.0.2.8"], ["nobody", ""])
    answer = scene.limits.answer({"do": "unban", "all": True})
    assert answer["lifted"] == ["192.0.2.9"]
    scene.worker.close()


async def test_usage_names_the_connection_with_the_most_forwards(directory: Path) -> None:
    """Each limit has one row, with the person, key, target or connection that uses most of it."""
    scene = Scene(directory)
    for number in range(3):
        slot = ForwardSlot("w1", "c1" if number else "c2", "alice", "SHA256:a", "office 192.168.1.2:22")
        scene.slots.take(str(number), slot, None)
    rows = {row["limit"]: row for row in scene.limits.usage()}
    assert (rows["forwards_per_connection"]["used"], rows["forwards_per_connection"]["by"]) == (2, "c1")
    assert (rows["forwards_per_person"]["used"], rows["forwards_per_person"]["by"]) == (3, "alice")
    assert rows["connections_per_person"] == {"limit": "connections_per_person", "used": 0, "most": 1024, "by": ""}
    scene.worker.close()

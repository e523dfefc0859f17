"""The fair semaphore for dials: bounded, each person in turn, and no wait without end."""

import asyncio

import pytest

from relay.serve.worker.forward.dial import DialFailed
from relay.serve.worker.forward.dial_semaphore import DialSemaphore


class Dialler:
    """Dials that end when the test says so."""

    def __init__(self, most: int) -> None:
        self.dials = DialSemaphore(most)
        self.over: dict[str, asyncio.Event] = {}
        self.begun: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def start(self, person: str, name: str, seconds: float = 5.0) -> None:
        """Begin a dial of that person."""
        self.over[name] = asyncio.Event()

        async def dial() -> None:
            async with self.dials.slot(person, seconds):
                self.begun.append(name)
                await self.over[name].wait()

        self.tasks[name] = asyncio.create_task(dial())
        await asyncio.sleep(0)

    async def end(self, name: str) -> None:
        """That dial is over."""
        self.over[name].set()
        await self.tasks[name]
        await asyncio.sleep(0)
        await asyncio.sleep(0)


async def test_one_person_gets_half_of_the_slots() -> None:
    """Of four slots one person gets two, however many dials wait; another person is not delayed."""
    dialler = Dialler(4)
    for name in ("a1", "a2", "a3", "a4"):
        await dialler.start("alice", name)
    await dialler.start("bob", "b1")
    assert dialler.begun == ["a1", "a2", "b1"]
    await dialler.end("a1")
    assert dialler.begun == ["a1", "a2", "b1", "a3"]
    assert dialler.dials.in_progress == 3
    for name in ("a2", "b1", "a3", "a4"):
        await dialler.end(name)
    assert dialler.dials.in_progress == 0
    assert dialler.dials._per_person == {}
    assert dialler.dials._waiting == {}


async def test_persons_take_turns() -> None:
    """A dial does not wait behind all dials of another person that came first."""
    dialler = Dialler(2)
    for name in ("a1", "c1", "a2", "a3", "a4"):
        await dialler.start(name[0], name)
    await dialler.start("b", "b1")
    await dialler.end("a1")
    await dialler.end("c1")
    assert dialler.begun == ["a1", "c1", "a2", "b1"]
    for name in ("a2", "b1", "a3", "a4"):
        await dialler.end(name)


async def test_a_dial_that_waits_too_long_fails_as_busy() -> None:
    """Without a slot in time the reason is for the operator, and no slot is lost."""
    dialler = Dialler(2)
    await dialler.start("alice", "a1")
    await dialler.start("alice", "a2", seconds=0.01)
    with pytest.raises(DialFailed) as failed:
        await dialler.tasks["a2"]
    assert failed.value.reason == "busy"
    assert "no place to dial" in failed.value.detail
    await dialler.end("a1")
    await dialler.start("alice", "a3")
    assert dialler.begun == ["a1", "a3"]
    await dialler.end("a3")


async def test_a_cancelled_dial_keeps_no_slot() -> None:
    """A client may go while its dial waits, or in the moment in which it gets its slot."""
    dialler = Dialler(2)
    for name in ("a1", "a2", "a3"):
        await dialler.start("alice", name)
    dialler.tasks["a2"].cancel()
    await asyncio.sleep(0)
    dialler.over["a1"].set()
    await dialler.tasks["a1"]  # a3 has been given the slot, and has not run yet
    dialler.tasks["a3"].cancel()
    with pytest.raises(asyncio.CancelledError):
        await dialler.tasks["a3"]
    await asyncio.sleep(0)
    assert dialler.dials.in_progress == 0
    assert dialler.dials._waiting == {}

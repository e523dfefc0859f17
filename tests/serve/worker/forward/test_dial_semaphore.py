"""So many dials at once, each person in turn, and nobody waits for ever."""

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
            await self.dials.enter(person, seconds)
            try:
                self.begun.append(name)
                await self.over[name].wait()
            finally:
                self.dials.leave(person)

        self.tasks[name] = asyncio.create_task(dial())
        await asyncio.sleep(0)

    async def end(self, name: str) -> None:
        """That dial is over."""
        self.over[name].set()
        await self.tasks[name]
        await asyncio.sleep(0)
        await asyncio.sleep(0)


async def test_so_many_at_once_and_half_of_them_for_one_person() -> None:
    """Of four places one person gets two, whatever waits; another one is not held up."""
    dialler = Dialler(4)
    for name in ("a1", "a2", "a3", "a4"):
        await dialler.start("alice", name)
    await dialler.start("bob", "b1")
    assert dialler.begun == ["a1", "a2", "b1"]
    await dialler.end("a1")
    assert dialler.begun == ["a1", "a2", "b1", "a3"]
    assert dialler.dials.under_way == 3
    for name in ("a2", "b1", "a3", "a4"):
        await dialler.end(name)
    assert dialler.dials.under_way == 0
    assert dialler.dials._per_person == {}
    assert dialler.dials._waiting == {}


async def test_persons_take_turns() -> None:
    """Many of one person that came first do not keep the one of another waiting behind all of them."""
    dialler = Dialler(2)
    for name in ("a1", "c1", "a2", "a3", "a4"):
        await dialler.start(name[0], name)
    await dialler.start("b", "b1")
    await dialler.end("a1")
    await dialler.end("c1")
    assert dialler.begun == ["a1", "c1", "a2", "b1"]
    for name in ("a2", "b1", "a3", "a4"):
        await dialler.end(name)


async def test_who_waits_too_long_is_told() -> None:
    """No place in time: busy, with the reason for the operator; the place is not lost."""
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


async def test_who_gives_up_leaves_no_place_taken() -> None:
    """A client that goes away while its dial waits, or in the moment in which it gets its place, takes none."""
    dialler = Dialler(2)
    for name in ("a1", "a2", "a3"):
        await dialler.start("alice", name)
    dialler.tasks["a2"].cancel()
    await asyncio.sleep(0)
    dialler.over["a1"].set()
    await dialler.tasks["a1"]  # a3 has been given the place, and has not run yet
    dialler.tasks["a3"].cancel()
    with pytest.raises(asyncio.CancelledError):
        await dialler.tasks["a3"]
    await asyncio.sleep(0)
    assert dialler.dials.under_way == 0
    assert dialler.dials._waiting == {}

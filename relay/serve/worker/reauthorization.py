"""Is what a worker carries still allowed? All of it is judged again after each change of the law, and every second.

Where nothing is carried there is nothing to judge: `look_now` says when somebody has come.

Keys first, as they are the quickest to ask and the most urgent; then each forward, those being opened too. Whatever
else the worker does comes between: a turn of the loop takes about a millisecond of it.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator

from relay.serve.ticker import left
from relay.serve.worker.session import Adapter

BELT = 1.0  # seconds: hours, until and expiry pass without a message
TURN = 0.001  # seconds of judging before the others have their turn


class LoopSlices:
    """Lets others have their turn in a long work."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()

    async def rest(self) -> None:
        """Called between two pieces of it: nothing, or a turn of everybody else."""
        if self._loop.time() - self._began >= TURN:
            await asyncio.sleep(0)
            self._began = self._loop.time()


class Reauthorization:
    """Judges again for ever. `connections` gives all connections of the worker."""

    def __init__(self, connections: Callable[[], Iterable[Adapter]], bug: Callable[[BaseException], None]) -> None:
        self._connections = connections
        self._bug = bug
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def look_now(self) -> None:
        """The law has changed, or somebody has come."""
        self._changed.set()

    async def run(self) -> None:
        """For ever; ends by being cancelled."""
        while True:
            somebody = next(iter(self._connections()), None) is not None
            try:
                async with asyncio.timeout(left(self._loop.time(), BELT) if somebody else None):
                    await self._changed.wait()
            except TimeoutError:
                pass
            self._changed.clear()
            await self.judge()

    async def judge(self) -> None:
        """Once."""
        turns = LoopSlices()
        for question in (_key, Adapter.judge_again):
            for adapter in tuple(self._connections()):
                try:
                    for _ in question(adapter):
                        await turns.rest()
                except Exception as error:  # one connection's trouble must not keep the others from being judged
                    self._bug(error)
                    adapter.end("internal-error", "an internal error")
                await turns.rest()


def _key(adapter: Adapter) -> Iterator[None]:
    adapter.judge_key()
    yield

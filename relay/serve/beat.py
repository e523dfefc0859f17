"""When is what is looked at again and again looked at? All of it together: a process at rest wakes once for all of it.

Waking costs more than most of the looks do. So whoever looks each second looks when the clock's second is full; and
what is of use to nobody while nobody is connected waits for somebody.
"""

import asyncio
from collections.abc import Callable

_NEXT = 0.001  # seconds: a timer that was early by less belongs to the beat that it was set for


def left(now: float, seconds: float) -> float:
    """How long it is from `now` to the next multiple of so many seconds."""
    rest = seconds - now % seconds
    return rest if rest > _NEXT else rest + seconds


async def pause(seconds: float) -> None:
    """Until the next multiple of so many seconds: at most so long."""
    await asyncio.sleep(left(asyncio.get_running_loop().time(), seconds))


class Beat:
    """The beat of one process, which stands still while `somebody` says that nobody is there."""

    def __init__(self, somebody: Callable[[], bool]) -> None:
        self._somebody = somebody
        self._stirred = asyncio.Event()

    def stir(self) -> None:
        """Somebody has come, or there is something new to look at."""
        self._stirred.set()

    async def next(self, seconds: float, *, busy: bool = False) -> None:
        """Until the next multiple of so many seconds; or, unless `busy`, while nobody is there, until `stir`."""
        if busy or self._somebody():
            await pause(seconds)
        else:
            self._stirred.clear()
            await self._stirred.wait()

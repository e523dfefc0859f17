"""When does a serving process look after things by itself? At the same moments, all of them.

Whatever comes round for ever wakes the process, and a wake-up costs a tenth of a millisecond, however little there is
to do: ten tasks that sleep a second each are ten of them, unless they sleep to the same beat. And what is of use to
nobody while nobody is connected waits for somebody.
"""

import asyncio
from collections.abc import Callable


def left(now: float, period: float) -> float:
    """Seconds from `now` to the next multiple of `period`, or to the one behind it where that is all but here."""
    rest = period - now % period
    return rest if rest >= period / 10 else rest + period


async def run_ticker(period: float) -> None:
    """Sleep until the next beat."""
    await asyncio.sleep(left(asyncio.get_running_loop().time(), period))


class Ticker:
    """The beat of one process, which stands still while `somebody` says that nobody is there."""

    def __init__(self, somebody: Callable[[], bool]) -> None:
        self._somebody = somebody
        self._stirred = asyncio.Event()

    def stir(self) -> None:
        """Somebody has come, or there is something new to look at."""
        self._stirred.set()

    async def next(self, period: float, *, busy: bool = False) -> None:
        """Sleep until the next beat; or, unless `busy`, while nobody is there, until `stir`."""
        if busy or self._somebody():
            await run_ticker(period)
        else:
            self._stirred.clear()
            await self._stirred.wait()

"""Aligned periodic timers of a serving process.

Tasks that sleep until the same instants share their wake-ups: a wake-up costs a tenth of a millisecond, however little
there is to do, so ten unaligned one-second timers would cost ten of them. `Ticker` stops while the process is idle.
"""

import asyncio
from collections.abc import Callable


def seconds_to_tick(now: float, period: float) -> float:
    """Seconds from `now` to the next multiple of `period`, or to the one after it if that is all but reached."""
    rest = period - now % period
    return rest if rest >= period / 10 else rest + period


async def run_ticker(period: float) -> None:
    """Sleep until the next multiple of `period`."""
    await asyncio.sleep(seconds_to_tick(asyncio.get_running_loop().time(), period))


class Ticker:
    """The periodic timer of one process, which stops while `is_busy` is false."""

    def __init__(self, is_busy: Callable[[], bool]) -> None:
        self._is_busy = is_busy
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """There is something to do again."""
        self._woken.set()

    async def next(self, period: float, *, busy: bool = False) -> None:
        """Sleep until the next multiple of `period`; while the process is idle until `wake`, unless `busy`."""
        if busy or self._is_busy():
            await run_ticker(period)
        else:
            self._woken.clear()
            await self._woken.wait()

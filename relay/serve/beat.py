"""When does a serving process look after things by itself? At the same moments, all of them.

Whatever comes round for ever wakes the process, and a wake-up costs a tenth of a millisecond, however little there is
to do: ten tasks that sleep a second each are ten of them, unless they sleep to the same beat.
"""

import asyncio


def left(now: float, period: float) -> float:
    """Seconds from `now` to the next multiple of `period`, or to the one behind it where that is all but here."""
    rest = period - now % period
    return rest if rest >= period / 10 else rest + period


async def beat(period: float) -> None:
    """Sleep until the next beat."""
    await asyncio.sleep(left(asyncio.get_running_loop().time(), period))

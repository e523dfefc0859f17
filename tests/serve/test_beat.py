"""Things that come round by themselves (relay/serve/beat.py)."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from relay.serve.beat import beat, left


@given(st.floats(0, 1e7), st.sampled_from([0.05, 0.5, 1.0, 2.0]))
def test_a_beat_is_never_far_and_never_twice(now: float, period: float) -> None:
    """From any moment it is a tenth of a period away at least, eleven tenths at most, and at a multiple of it."""
    rest = left(now, period)
    assert period / 10 <= rest <= period * 1.1
    assert abs((now + rest) / period - round((now + rest) / period)) < 1e-6


async def test_tasks_of_one_period_wake_together() -> None:
    """Whenever they began, they are run in one turn of the loop."""
    loop = asyncio.get_running_loop()
    woken: list[float] = []

    async def task(begin: float) -> None:
        await asyncio.sleep(begin)
        await beat(0.1)
        woken.append(loop.time())

    await asyncio.gather(*(task(number / 1000) for number in range(5)))
    together = [at - woken[0] < 0.05 for at in woken]
    assert sum(together) >= 4  # one may have begun behind a beat

"""Aligned timers of the serving processes, and an idle relay that sleeps."""

import asyncio
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.serve.ticker import Ticker, run_ticker, seconds_to_tick
from tests.relay_process import Relay, relay, wait_for
from tests.serve.hostile import Client, load_key


@given(st.floats(0, 1e7), st.sampled_from([0.05, 0.5, 1.0, 2.0]))
def test_the_next_tick_is_neither_far_nor_at_once(now: float, period: float) -> None:
    """From any moment it is a tenth of a period away at least, eleven tenths at most, and at a multiple of it."""
    rest = seconds_to_tick(now, period)
    assert period / 10 <= rest <= period * 1.1
    assert abs((now + rest) / period - round((now + rest) / period)) < 1e-6


async def test_timers_that_began_apart_fire_together() -> None:
    """Tasks that began to wait at different times continue in the same turn of the loop."""
    ends: list[float] = []

    async def wait(after: float) -> None:
        await asyncio.sleep(after)
        await run_ticker(0.2)
        ends.append(asyncio.get_running_loop().time())

    loop = asyncio.get_running_loop()
    await asyncio.sleep(seconds_to_tick(loop.time(), 0.2))
    await asyncio.gather(wait(0.0), wait(0.03), wait(0.06))
    assert {round(end / 0.2) for end in ends} == {round(ends[0] / 0.2)}
    assert max(ends) - min(ends) < 0.02


async def test_a_ticker_stops_while_the_process_is_idle() -> None:
    """Idle, it waits for `wake`; with a connection, or when the caller is busy, it goes by the clock."""
    here: list[str] = []
    one = Ticker(lambda: bool(here))
    waiting = asyncio.ensure_future(one.next(0.01))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    one.wake()
    await asyncio.wait_for(waiting, 1)
    await asyncio.wait_for(one.next(0.01, busy=True), 1)
    here.append("a connection")
    await asyncio.wait_for(one.next(0.01), 1)


def woken(one: Relay) -> int:
    """How often threads of this relay's processes have slept since they began."""
    total = 0
    for pid in (one.pid, *one.worker_pids()):
        for status in Path(f"/proc/{pid}/task").glob("*/status"):
            total += int(status.read_text().partition("voluntary_ctxt_switches:")[2].split()[0])
    return total


@pytest.mark.system
def test_a_relay_at_rest_wakes_seldom_and_misses_nothing(tmp_path: Path) -> None:
    """Three processes, less than ten times a second, before and after a client; a removed key is out in two seconds."""
    with relay(tmp_path, settings="workers: 2\n") as one:

        def rests() -> bool:
            before, began = woken(one), time.monotonic()
            time.sleep(2)
            return woken(one) - before < 10 * (time.monotonic() - began)

        wait_for(rests, "it does not come to rest")
        with Client(one.port) as client:
            client.login("alice", load_key(one.key))
        wait_for(rests, "it does not come to rest after a client")
        began = time.monotonic()
        (one.site / "keys" / "alice.pub").unlink()
        one.wait_row("key.removed")
        assert time.monotonic() - began < 3

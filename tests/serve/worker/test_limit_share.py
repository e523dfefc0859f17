"""This worker's share of the relay-wide limits."""

import asyncio

from relay.core.settings import Limits, Settings
from relay.serve.ipc import Message
from relay.serve.ticker import Ticker
from relay.serve.worker.limit_share import LimitShare


async def test_dials_and_memory_are_divided_by_the_number_of_workers() -> None:
    """Of what the settings allow each of four workers gets a quarter; a dial is possible in any case."""
    share = LimitShare()
    share.change(Settings(workers=4, limits=Limits(dials=400, buffers=64 << 20)))
    assert (share.dials.limit, share.windows.most) == (100, 16 << 20)
    share.change(Settings(workers=4, limits=Limits(dials=4)))
    assert share.dials.limit == 2


async def test_what_is_in_use_is_reported_when_it_changes() -> None:
    """Once for each change, and not while nothing happens."""
    share = LimitShare()
    share.change(Settings(workers=1))
    sent: list[Message] = []
    ticker = Ticker(lambda: False)
    reporting = asyncio.create_task(share.report(sent.append, ticker))
    try:
        async with asyncio.timeout(10):
            for _ in range(2):  # the second one is equal to the first
                await asyncio.sleep(0)
                ticker.wake()
            while not sent:
                await asyncio.sleep(0.001)
            window = share.windows.lend(0)
            ticker.wake()
            while len(sent) < 2:
                await asyncio.sleep(0.001)
        share.windows.give_back(window)
        assert [message["buffers"] > 0 for message in sent] == [False, True]
        assert {message["t"] for message in sent} == {"use"}
    finally:
        reporting.cancel()

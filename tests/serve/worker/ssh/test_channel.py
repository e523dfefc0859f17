"""One direct-tcpip channel: data for a slow side is bounded, and dropped when the forward ends."""

import asyncio

import pytest

from relay.serve.worker.ssh import window_budget
from tests.serve import hostile
from tests.serve.hostile import string, uint32
from tests.serve.plain import OTHERS, Plain, turns


@pytest.mark.parametrize("window", [window_budget.LEAST, window_budget.SMALL, window_budget.FULL])
def test_a_target_that_does_not_read_costs_the_lent_window(window: int) -> None:
    """A client that fills each window makes a worker hold the lent window and a quarter of it; all data arrives."""

    async def run() -> None:
        one = Plain(fast=True, windows=[window])
        try:
            await one.open()
            channel, pipe, room, sent = one.connection._channels[0], one.owner.pipes[0], window, 0

            def granted() -> int:
                found = [payload for payload in one.heard() if payload[0] == hostile.WINDOW_ADJUST]
                return sum(int.from_bytes(payload[5:9], "big") for payload in found)

            while room:
                part = min(room, 1 << 15)
                one.feed(one.packet(bytes([hostile.DATA]) + uint32(0) + string(bytes(part))))
                room, sent = room - part + granted(), sent + part
            assert not one.gone
            assert len(pipe._unsent) + sum(len(data) for data, _ in channel._recv_buf) <= window + window // 4
            got = 0
            for _ in range(200):
                got += len(one.taken(0))
                await turns()
            assert got == sent
            assert granted() >= window // 2, "the client could not go on"
        finally:
            one.close()

    asyncio.run(run())


@pytest.mark.parametrize("fast", [True, False])
def test_data_deferred_by_a_key_exchange_ends_with_its_forward(fast: bool) -> None:
    """Data of a forward that is ended during a key exchange is not sent after it; that of another forward is."""

    async def run() -> None:
        one = Plain(fast=fast)
        try:
            for _ in range(2):
                await one.open()
            one.heard()
            one.connection._kex_complete = False
            for target in one.owner.targets:
                target.send(b"too late")
            one.feed(one.packet(OTHERS["global"]))  # an answer that waits too
            await turns()
            one.owner.pipes[0].abort("key-revoked")
            one.connection._kex_complete = True
            one.connection._send_deferred_packets()
            for channel in one.connection._channels.values():
                channel.flush()
            await turns()
            heard = [payload[:5] for payload in one.heard()]
            assert heard.count(bytes([hostile.CLOSE]) + uint32(0)) == 1
            assert heard.count(bytes([hostile.DATA]) + uint32(0)) == 0
            assert heard.count(bytes([hostile.DATA]) + uint32(1)) == 1
        finally:
            one.close()

    asyncio.run(run())


@pytest.mark.parametrize("fast", [True, False])
def test_single_bytes_for_a_target_that_does_not_read_are_joined(fast: bool) -> None:
    """20,000 packets of one byte to a target that reads nothing are kept as 20 kB, not as 20,000 objects."""

    async def run() -> None:
        one = Plain(fast=fast, windows=[1 << 19])
        try:
            await one.open()
            full = one.packet(bytes([hostile.DATA]) + uint32(0) + string(bytes(1 << 15)))
            one.feed(full)
            while not one.owner.pipes[0]._full:
                one.feed(one.packet(bytes([hostile.DATA]) + uint32(0) + string(bytes(1 << 15))))
                one.heard()
            for _ in range(20):
                byte = bytes([hostile.DATA]) + uint32(0) + string(b"x")
                one.feed(b"".join(one.packet(byte) for _ in range(1000)))
            assert not one.gone
            if fast:
                assert len(one.connection._channels[0]._recv_buf) <= 2 + (20_000 >> 15)
            assert sum(len(data) for data, _ in one.connection._channels[0]._recv_buf) >= 20_000
        finally:
            one.close()

    asyncio.run(run())

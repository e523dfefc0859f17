"""One direct-tcpip channel: what waits for a slow side is bounded, and goes when the forward ends."""

import asyncio

import pytest

from relay.serve.worker.ssh import window_budget
from tests.serve import hostile
from tests.serve.hostile import string, uint32
from tests.serve.plain import OTHERS, Plain, turns


@pytest.mark.parametrize("window", [window_budget.LEAST, window_budget.SMALL, window_budget.FULL])
def test_a_deaf_target_costs_what_was_lent_and_then_goes_on(window: int) -> None:
    """A client that fills each window it gets makes a worker hold the one that was lent and a quarter; all arrives."""

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
def test_what_a_key_exchange_keeps_back_of_a_forward_goes_with_it(fast: bool) -> None:
    """Cut while keys are exchanged, a forward's bytes are not sent when that is done; those of its neighbour are."""

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
def test_single_bytes_for_a_deaf_target_are_kept_as_bytes(fast: bool) -> None:
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

"""Both paths give a client the same bytes, in the same order, and begin key exchanges at the same packet."""

import asyncio
import contextlib
import socket
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.serve import hostile
from tests.serve.hostile import uint32
from tests.serve.plain import Heard, Plain, turns

CHANNELS = 3
SIZES = st.sampled_from([1, 2, 11, 1000, (1 << 14) - 1, 1 << 14, (1 << 15) - 1, 1 << 15, (1 << 15) + 1, 100_000])
EVERY = st.one_of(SIZES, st.integers(1, 1 << 16))


WORDS = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.integers(0, CHANNELS - 1), EVERY),
        st.tuples(st.just("say"), st.just(0), st.integers(1, 1 << 18)),
        st.tuples(st.just("grant"), st.integers(0, CHANNELS - 1), EVERY),
        st.tuples(st.sampled_from(["eof", "over"]), st.integers(0, CHANNELS - 1), st.just(0)),
        st.tuples(st.just("turn"), st.just(0), st.integers(1, 4)),
    ),
    max_size=24,
)


async def download(
    fast: bool, words: list[tuple[str, int, int]], takes: list[int], *, window: int, packet: int, rekey: int
) -> list[object]:
    """Drive one connection whose targets send; what the client has received."""
    one = Plain(fast=fast, takes=takes, start=b"four" + b"\xff" * 7 + b"\xfc")
    heard, said = Heard(), defaultdict(bytearray)
    waiting = defaultdict(bytearray)
    room = [window] * CHANNELS
    try:
        for _ in range(CHANNELS):
            await one.open(window=window, size=packet)
        one.connection._rekey_bytes = rekey or 1 << 30
        over: set[int] = set()

        async def turn(count: int) -> None:
            for _ in range(count):
                for number, rest in waiting.items():
                    with contextlib.suppress(BlockingIOError, BrokenPipeError):
                        del rest[: one.owner.targets[number].send(rest)]
                    if not rest and number in over and number not in closed:
                        closed.add(number)
                        one.owner.targets[number].shutdown(socket.SHUT_WR)
                await turns()
                heard.take(one.heard())
                assert all(len(heard.data[number]) <= room[number] for number in range(CHANNELS)), "window exceeded"

        closed: set[int] = set()
        for index, (kind, number, size) in enumerate(words):
            if kind == "say" and number not in over:
                said[number] += bytes([index & 0xFF]) * size
                waiting[number] += bytes([index & 0xFF]) * size
            elif kind == "grant":
                room[number] += size
                one.feed(one.packet(bytes([hostile.WINDOW_ADJUST]) + uint32(number, size)))
            elif kind == "over":
                over.add(number)
                waiting[number] += b""
            elif kind == "turn":
                await turn(size)
        for number in range(CHANNELS):
            room[number] += 1 << 24
            one.feed(one.packet(bytes([hostile.WINDOW_ADJUST]) + uint32(number, 1 << 24)))
        await turn(60)
        heard.take(one.heard())
        assert max(heard.sizes, default=0) <= packet
        kex = [index for index, payload in enumerate(heard.other) if payload[0] == hostile.KEXINIT]
        if not kex:
            assert {number: data for number, data in heard.data.items() if data} == said
        assert all(said[number].startswith(data) for number, data in heard.data.items())
        sent = (one.connection._send_seq, len(kex), sorted(heard.data), bool(one.owner.bugs))
        heard.other = [payload for payload in heard.other if payload[0] != hostile.KEXINIT]
        return [heard.other, heard.data if not kex else None, one.owner.ends, sent[1:]]
    finally:
        one.close()


@given(
    WORDS,
    st.lists(st.one_of(st.just(0), st.integers(1, 1 << 18)), max_size=10),
    st.one_of(st.integers(0, 1 << 17), st.just(1 << 21)),
    st.sampled_from([256, 1000, 1 << 14, (1 << 14) + 1, 1 << 15, 1 << 20]),
    st.one_of(st.just(0), st.integers(1, 1 << 18)),
)
def test_data_of_a_target_reaches_the_client_alike_on_both_paths(
    words: list[tuple[str, int, int]], takes: list[int], window: int, packet: int, rekey: int
) -> None:
    """For any sizes, windows, packet sizes and partial writes: every byte in order, no window exceeded.

    A key exchange that becomes due begins on both paths, and no data follows its KEXINIT.
    """
    plain = asyncio.run(download(False, words, [], window=window, packet=packet, rekey=rekey))
    fast = asyncio.run(download(True, words, takes, window=window, packet=packet, rekey=rekey))
    if plain[1] is not None and fast[1] is not None:
        assert plain == fast


@pytest.mark.parametrize("cipher", ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com"])
def test_a_key_exchange_begins_when_it_is_due(cipher: str) -> None:
    """Both paths begin it before the first packet after the limit is reached."""

    async def run() -> None:
        limit = 1 << 20
        one = Plain(fast=True, cipher=cipher)
        try:
            await one.open(window=1 << 24)
            one.heard()
            one.connection._rekey_bytes = limit
            one.owner.targets[0].settimeout(0)
            payloads: list[bytes] = []
            for _ in range(200):
                with contextlib.suppress(BlockingIOError):
                    one.owner.targets[0].send(bytes(1 << 17))
                await turns()
                payloads += one.heard()
            kinds = [payload[0] for payload in payloads]
            assert kinds.count(hostile.KEXINIT) == 1
            assert kinds[-1] == hostile.KEXINIT, "data went out behind KEXINIT"
            lengths = [1 + len(payload) + _padding(payload) for payload in payloads[:-1]]
            assert sum(lengths) >= limit > sum(lengths[:-1])
        finally:
            one.close()

    asyncio.run(run())


def _padding(payload: bytes) -> int:
    least = -(1 + len(payload)) % 16
    return least if least >= 4 else least + 16

"""Reading of a client: the fast path has the same effect as asyncssh on targets, answers and ends.

Both are driven with the same script; asyncssh handles all packets with `fast=False`.
"""

import asyncio
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.serve import hostile
from tests.serve.hostile import string, uint32
from tests.serve.plain import FULL, OTHERS, Heard, Plain, turns

CHANNELS = 3
HALVES = (1 << 15, 1 << 17, 1 << 20)  # of the channels' windows
SIZES = st.sampled_from([1, 2, 11, 1000, (1 << 14) - 1, 1 << 14, (1 << 15) - 1, 1 << 15, (1 << 15) + 1, 100_000])
EVERY = st.one_of(SIZES, st.integers(1, 1 << 16))


Step = tuple[str, int, int, int]  # what, which channel, size, blocks of padding

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("data"), st.integers(0, CHANNELS - 1), EVERY, st.sampled_from([0, 0, 0, 1, 13])),
        st.tuples(st.just("data"), st.just(0), EVERY, st.just(0)),  # runs for one channel are the common case
        st.tuples(st.just("grant"), st.integers(0, CHANNELS - 1), st.integers(0, 1 << 20), st.just(0)),
        st.tuples(
            st.sampled_from([*OTHERS, "eof", "close", "empty"]), st.integers(0, CHANNELS - 1), st.just(0), st.just(0)
        ),
        st.tuples(st.sampled_from(["drain"]), st.just(0), st.just(0), st.just(0)),
    ),
    max_size=24,
)
# what ends the connection, and what is wrong about it
BREAKS = st.sampled_from(
    ["", "", "", "spoilt", "short", "long", "no channel", "too much", "overflow", "tail", "no padding"]
)


def broken(one: Plain, kind: str) -> bytes:
    """A packet that ends the connection."""
    data = bytes([hostile.DATA])
    match kind:
        case "spoilt":
            packet = bytearray(one.packet(data + uint32(0) + string("x")))
            packet[-1] ^= 1
            return bytes(packet)
        case "spoilt run":
            packets = [one.packet(data + uint32(2) + string(bytes(FULL))) for _ in range(3)]
            return packets[0] + packets[1][:-1] + bytes([packets[1][-1] ^ 1]) + packets[2]
        case "short":
            return uint32(3) + bytes(40)
        case "long":
            return uint32((1 << 18) + 1) + bytes(40)
        case "no channel":
            return one.packet(data + uint32(4711) + string("x"))
        case "too much":
            return one.packet(data + uint32(0) + string(bytes((1 << 16) + 1)))
        case "overflow":
            return one.packet(bytes([hostile.WINDOW_ADJUST]) + uint32(0, 0xFFFFFFFF))
        case "tail":
            return one.packet(data + uint32(0) + string("x") + b"more")
        case "no padding":
            return one.packet(data)
    return b""


async def upload(
    fast: bool, steps: list[Step], wanted: list[int], *, rekey: int, ending: str, cipher: str, runs: int = 0
) -> list[object]:
    """Drive one connection after `runs` reads of equal packets; all its effects."""
    one = Plain(fast=fast, windows=[2 * half for half in HALVES], cipher=cipher, start=b"four" + b"\xff" * 7 + b"\xf0")
    heard, got = Heard(), defaultdict(bytearray)
    try:
        one.feed(one.packet(OTHERS["log-in"]))  # of no effect until a channel has been opened
        for _ in range(CHANNELS):
            await one.open()
        heard.take(one.heard())
        budget = list(HALVES)  # what may be sent in any case, once everything before has been taken
        over: set[int] = set()
        data = bytearray()
        cuts: list[int] = []

        async def flush() -> None:
            """Feed the collected packets in pieces of the script's sizes, then read the targets."""
            while data:
                size = cuts.pop(0) if cuts else len(data)
                one.feed(bytes(data[:size]))
                del data[:size]
            for _ in range(12):
                await turns()
                heard.take(one.heard())
                for number in range(CHANNELS):
                    got[number] += one.taken(number)
            budget[:] = HALVES

        for _ in range(runs):
            data += b"".join(one.packet(bytes([hostile.DATA]) + uint32(2) + string(bytes(FULL))) for _ in range(2))
            cuts = [len(data)]
            await flush()
        cuts = list(wanted)
        for index, (kind, number, size, padding) in enumerate(steps):
            if index == rekey:
                await flush()
                one.keys(b"another key of thirty-two bytes!", at_once=False)
                data += one.packet(OTHERS["ignore"]) + one.new_keys()
            if kind == "data" and number not in over:
                said = bytes([index & 0xFF]) * min(size, HALVES[number])
                if len(said) > budget[number]:
                    await flush()
                budget[number] -= len(said)
                data += one.packet(bytes([hostile.DATA]) + uint32(number) + string(said), padding)
            elif kind == "empty" and number not in over:
                data += one.packet(bytes([hostile.DATA]) + uint32(number) + string(b""))
            elif kind == "grant" and number not in over:
                data += one.packet(bytes([hostile.WINDOW_ADJUST]) + uint32(number, size))
            elif kind in ("eof", "close") and number not in over:
                over.add(number)
                kinds = {"eof": hostile.EOF, "close": hostile.CLOSE}
                data += one.packet(bytes([kinds[kind]]) + uint32(number))
            elif kind in OTHERS:
                data += one.packet(OTHERS[kind])
            elif kind == "drain":
                await flush()
        if "run" in ending or len(data) > 2 * FULL:
            await (
                flush()
            )  # how much a socket accepts, call by call, is not compared; unsent data ends with a connection
        if ending and 0 not in over:
            data += broken(one, ending)
        await flush()
        sequence = one.connection._recv_seq
        return [got, heard.other, heard.data, one.owner.bugs, one.owner.ends, one.gone, sequence]
    finally:
        one.close()


@given(
    STEPS,
    st.lists(st.one_of(st.integers(1, 64), st.integers(1, 1 << 16), st.just(1 << 18)), max_size=40),
    st.integers(-1, 12),
    BREAKS,
    st.sampled_from(["aes128-gcm@openssh.com", "aes256-gcm@openssh.com"]),
)
def test_packets_of_a_client_have_the_same_effect_on_both_paths(
    steps: list[Step], cuts: list[int], rekey: int, ending: str, cipher: str
) -> None:
    """Any packets, cut anywhere, across new keys and an overflow of the nonce: the same bytes, answers and ends."""
    plain = asyncio.run(upload(False, steps, cuts, rekey=rekey, ending=ending, cipher=cipher))
    fast = asyncio.run(upload(True, steps, cuts, rekey=rekey, ending=ending, cipher=cipher))
    assert plain == fast
    assert fast[3] == []


ALIKE = st.lists(
    st.one_of(
        st.just(("data", 2, FULL, 0)),
        st.just(("data", 2, FULL, 0)),
        st.just(("data", 2, FULL, 0)),
        st.sampled_from([("data", 2, FULL - 16, 1), ("data", 1, FULL, 0), ("data", 0, FULL, 0), ("data", 2, 7, 0)]),
        st.sampled_from([("long", 0, 0, 0), ("ignore", 0, 0, 0), ("grant", 2, 9, 0), ("close", 2, 0, 0)]),
    ),
    min_size=2,
    max_size=40,
)


@given(
    ALIKE,
    st.lists(st.one_of(st.just(1 << 18), st.integers(1, 1 << 18)), max_size=12),
    st.integers(-1, 12),
    st.sampled_from(["", "spoilt run", "too much"]),
)
def test_a_run_of_equal_packets_has_the_same_effect_on_both_paths(
    steps: list[Step], cuts: list[int], rekey: int, ending: str
) -> None:
    """Full data packets in a row, and among them others of that length, some of which do not verify."""
    cipher = "aes128-gcm@openssh.com"
    plain = asyncio.run(upload(False, steps, cuts, rekey=rekey, ending=ending, cipher=cipher, runs=3))
    fast = asyncio.run(upload(True, steps, cuts, rekey=rekey, ending=ending, cipher=cipher, runs=3))
    assert plain == fast
    assert fast[3] == []


@pytest.mark.parametrize("fast", [True, False])
async def test_nothing_after_a_disconnect_reaches_a_target(fast: bool) -> None:
    """Data, a disconnect and more data in one read: the target gets the data before the disconnect."""
    one = Plain(fast=fast)
    await one.open()
    goodbye = bytes([hostile.DISCONNECT]) + uint32(11) + string("bye") + string("")
    before, behind = (bytes([hostile.DATA]) + uint32(0) + string(text) for text in ("before", "behind"))
    one.feed(b"".join(map(one.packet, (before, goodbye, behind))))
    await turns()
    assert one.taken(0) == b"before<EOF>"
    one.close()


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("stub", [uint32(3), uint32((1 << 18) + 1) + bytes(8)], ids=["short", "long"])
def test_nothing_after_an_impossible_length_reaches_a_target(fast: bool, stub: bytes) -> None:
    """An impossible length in a read of its own is not skipped: no later packet reaches a target."""

    async def run() -> None:
        one = Plain(fast=fast)
        try:
            await one.open()
            data = bytes([hostile.DATA]) + uint32(0)
            one.feed(one.packet(data + string("before")))
            one.feed(stub)
            one.feed(one.packet(data + string("behind")))
            assert one.gone
            assert one.taken(0).startswith(b"before")
            assert b"behind" not in one.taken(0)
        finally:
            one.close()

    asyncio.run(run())

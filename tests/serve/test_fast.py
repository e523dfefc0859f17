"""The fast path gives what the inherited path gives: the same bytes to targets and clients, the same ends and rules.

Both are driven with the same script; the inherited one is asyncssh's own, with `fast=False`.
"""

import asyncio
import contextlib
import os
import socket
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import cast

import pytest
from asyncssh.encryption import GCMEncryption, get_encryption
from hypothesis import given
from hypothesis import strategies as st

from relay.serve.worker.forward import read_pacing, write_buffer
from relay.serve.worker.ssh import window_budget
from relay.serve.worker.ssh.fastpath import to_client
from relay.serve.worker.ssh.fastpath.aes_gcm import GcmEncryptor
from tests.serve import hostile
from tests.serve.hostile import string, uint32
from tests.serve.plain import Plain

CHANNELS = 3
FULL = 1 << 15
HALVES = (1 << 15, 1 << 17, 1 << 20)  # of the channels' windows
SIZES = st.sampled_from([1, 2, 11, 1000, (1 << 14) - 1, 1 << 14, (1 << 15) - 1, 1 << 15, (1 << 15) + 1, 100_000])
EVERY = st.one_of(SIZES, st.integers(1, 1 << 16))
OTHERS = {
    "ignore": bytes([hostile.IGNORE]) + string("x"),
    "debug": bytes([hostile.DEBUG]) + b"\0" + string("x") + string(""),
    "keepalive": bytes([hostile.GLOBAL_REQUEST]) + string("keepalive@openssh.com") + b"\1",
    "global": bytes([hostile.GLOBAL_REQUEST]) + string("nonsense") + b"\1",
    "unknown": bytes([199]) + b"x",
    "long": bytes([hostile.IGNORE]) + string("x" * (FULL + 4)),  # as long as a full packet of data
    "log-in": bytes([hostile.USERAUTH_REQUEST]) + string("x") + string("ssh-connection") + string("none"),
}


@dataclass
class Heard:
    """What a client has been told, in order, with data of one channel put together and window adjusts apart."""

    other: list[bytes] = field(default_factory=list)
    data: dict[int, bytearray] = field(default_factory=lambda: defaultdict(bytearray))
    granted: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    sizes: set[int] = field(default_factory=set)

    def take(self, payloads: list[bytes]) -> None:
        """More of it."""
        for payload in payloads:
            number = int.from_bytes(payload[1:5], "big")
            if payload[0] == hostile.DATA:
                said = hostile.strings(payload[5:])[0]
                assert len(payload) == 9 + len(said)
                self.data[number] += said
                self.sizes.add(len(said))
            elif payload[0] == hostile.WINDOW_ADJUST:
                self.granted[number] += int.from_bytes(payload[5:9], "big")
            elif payload[0] == hostile.DISCONNECT:
                self.other.append(b"disconnect " + hostile.strings(payload[5:])[0])
            else:
                self.other.append(payload)


async def turns(count: int = 4) -> None:
    """Let the loop do what it has to do."""
    for _ in range(count):
        await asyncio.sleep(0)


# ---- client to target

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
    """A packet that is a reason to end the connection."""
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
    """Drive one connection, which has had so many reads of like packets before; what came of it."""
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
            """Feed what was made until now in pieces of the script's sizes, then let the targets have it."""
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
        if "run" in ending:
            await flush()  # how much a socket takes, call by call, is not what is compared
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
def test_what_a_client_sends_has_the_same_effect_on_both_paths(
    steps: list[Step], cuts: list[int], rekey: int, ending: str, cipher: str
) -> None:
    """Any packets, cut anywhere, across a change of keys and the nonce's overflow: the same bytes, answers and ends."""
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
def test_a_run_of_like_packets_has_the_same_effect_on_both_paths(
    steps: list[Step], cuts: list[int], rekey: int, ending: str
) -> None:
    """Full packets one behind the other, among them some as long that are something else or do not verify."""
    cipher = "aes128-gcm@openssh.com"
    plain = asyncio.run(upload(False, steps, cuts, rekey=rekey, ending=ending, cipher=cipher, runs=3))
    fast = asyncio.run(upload(True, steps, cuts, rekey=rekey, ending=ending, cipher=cipher, runs=3))
    assert plain == fast
    assert fast[3] == []


# ---- target to client

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
    """Drive one connection whose targets speak; what the client has heard."""
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
def test_what_a_target_says_reaches_the_client_the_same_on_both_paths(
    words: list[tuple[str, int, int]], takes: list[int], window: int, packet: int, rekey: int
) -> None:
    """Any sizes, windows and packet sizes, a socket that takes a part: every byte in order, no window exceeded.

    A key exchange that becomes due begins on both paths, and no byte of data goes out behind its KEXINIT.
    """
    plain = asyncio.run(download(False, words, [], window=window, packet=packet, rekey=rekey))
    fast = asyncio.run(download(True, words, takes, window=window, packet=packet, rekey=rekey))
    if plain[1] is not None and fast[1] is not None:
        assert plain == fast


@pytest.mark.parametrize("fast", [True, False])
async def test_nothing_behind_a_disconnect_reaches_a_target(fast: bool) -> None:
    """Data, the client's disconnect and more data in one read: the target gets what came before it."""
    one = Plain(fast=fast)
    await one.open()
    goodbye = bytes([hostile.DISCONNECT]) + uint32(11) + string("bye") + string("")
    before, behind = (bytes([hostile.DATA]) + uint32(0) + string(text) for text in ("before", "behind"))
    one.feed(b"".join(map(one.packet, (before, goodbye, behind))))
    await turns()
    assert one.taken(0) == b"before<EOF>"
    one.close()


@pytest.mark.parametrize("cipher", ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com"])
def test_a_key_exchange_begins_with_the_packet_that_it_is_due_before(cipher: str) -> None:
    """asyncssh begins it before the first packet that finds the limit reached; so does the fast path."""

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


@given(st.integers(1, to_client.MAX_FRAME), st.sampled_from([1 << 14, 1 << 15, 1 << 17]))
def test_a_frame_is_packets_as_asyncssh_opens_them(count: int, packet: int) -> None:
    """Whatever is read comes out in packets that verify, in order, full but for the last one, with random padding."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        said = os.urandom(count)
        ours.sendall(said)
        cipher = get_encryption(b"aes128-gcm@openssh.com", bytes(16), bytes(12))
        one = to_client.ClientWriter()
        assert one.read(theirs, to_client.MAX_FRAME, packet) == count
        wire, packets, length = one.seal(GcmEncryptor(cast(GCMEncryption, cipher)), 0xFFFFFFFE, count)
        assert len(wire) == length + packets * 20
        found, padding, at = b"", b"", 0
        for _ in range(packets):
            size = int.from_bytes(wire[at : at + 4], "big")
            data = bytes(wire[at : at + 4 + size + 16])
            body = cipher.decrypt_packet(0, data[:16], data[16:-16], 4, data[-16:])
            assert body is not None
            assert body[1:6] == bytes([hostile.DATA]) + uint32(0xFFFFFFFE)
            said_here = hostile.strings(body[6 : -body[0]])
            assert len(said_here) == 1
            found += said_here[0]
            padding += body[-body[0] :]
            at += len(data)
        assert at == len(wire)
        assert found == said
        assert len(set(padding)) > 1


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("stub", [uint32(3), uint32((1 << 18) + 1) + bytes(8)], ids=["short", "long"])
def test_nothing_is_taken_behind_a_length_that_cannot_be(fast: bool, stub: bytes) -> None:
    """Four bytes of nonsense in a read of their own are not passed over: no packet behind them reaches a target."""

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


# ---- what is kept, and for how long


@given(st.lists(st.one_of(st.binary(min_size=1, max_size=40), st.integers(1, 1 << 17)), max_size=60))
def test_a_backlog_gives_back_what_was_put_in(steps: list[bytes | int]) -> None:
    """Bytes are added, seen and dropped in any order: what comes out is what went in, in few pieces."""
    one, model = write_buffer.WriteBuffer(), b""
    for step in steps:
        if isinstance(step, bytes):
            one.add(memoryview(step))
            model += step
        elif step % 2:
            data = bytes([step & 0xFF]) * step
            one.add(data)
            model += data
        else:
            head = b"".join(one.head(step))
            assert head == model[: len(head)]
            assert len(head) == min(step, len(model)) or len(one.head(step)) == write_buffer.PIECES
            one.drop(len(head) // 2)
            model = model[len(head) // 2 :]
        assert len(one) == len(model)
    assert b"".join(one.head(len(model) + 1)) == model[: sum(map(len, one.head(len(model) + 1)))]
    one.clear()
    assert not one
    assert one.head(1) == []


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


@contextlib.asynccontextmanager
async def reading() -> AsyncIterator[tuple[read_pacing.PacedSocket, socket.socket, list[int]]]:
    """A reader that is read when it is woken, the other end, and what each read has given."""
    listener = socket.create_server(("127.0.0.1", 0))
    theirs = socket.create_connection(listener.getsockname())
    ours, _ = listener.accept()
    with listener, theirs, ours:
        ours.setblocking(False)
        reader, came = read_pacing.PacedSocket(read_pacing.ReadPacer(), ours), list[int]()

        def readable() -> None:
            came.append(len(ours.recv(reader.share)))
            reader.note(came[-1])

        loop = asyncio.get_running_loop()
        loop.add_reader(ours.fileno(), readable)
        yield reader, theirs, came
        loop.remove_reader(ours.fileno())


async def carried(came: list[int], count: int) -> None:
    """Wait until so many bytes have been read."""
    async with asyncio.timeout(5):
        while sum(came) < count:
            await asyncio.sleep(0)


async def test_a_stream_that_carries_much_is_looked_at_less_often_and_its_rest_is_not_forgotten() -> None:
    """Once it has read much it waits for much (SO_RCVLOWAT); what is less than that comes with the next look."""
    async with reading() as (reader, theirs, came):
        loop, much = asyncio.get_running_loop(), 64 * read_pacing.BULK_BYTES
        sending = loop.run_in_executor(None, theirs.sendall, bytes(much))
        waited_for = set()
        while sum(came) < much:
            await asyncio.sleep(0)
            waited_for.add(reader.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT))
        await sending
        assert read_pacing.MIN_BULK_READ <= max(waited_for) <= read_pacing.MAX_LOW_WATER
        theirs.sendall(b"the rest")
        await carried(came, much + 8)
        async with asyncio.timeout(5):
            while reader.is_waiting_for_much:
                await asyncio.sleep(0.001)
        assert reader.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1


async def test_who_is_answered_never_waits() -> None:
    """However much the answers of a file server come to: between two of them there is a request, and none waits."""
    async with reading() as (reader, theirs, came):
        for count in range(1, 2 * read_pacing.BULK_BYTES // (2 * read_pacing.MIN_BULK_READ)):
            reader.interrupt()
            theirs.sendall(bytes(2 * read_pacing.MIN_BULK_READ))
            await carried(came, count * 2 * read_pacing.MIN_BULK_READ)
            reader.check()
            assert not reader.is_waiting_for_much


@pytest.mark.parametrize("fast", [True, False])
async def test_both_directions_of_a_forward_interrupt_each_other(fast: bool) -> None:
    """A client that has sent much and then hears its target is read at once again, and so is the target."""
    one = Plain(fast=fast, windows=[1 << 21])
    try:
        await one.open()
        pipe, client = one.owner.pipes[0], one.connection._reader
        for reader in (pipe._reader, client):
            reader.note(read_pacing.BULK_BYTES)
            reader.check()
            assert reader.is_waiting_for_much
        one.feed(one.packet(bytes([hostile.DATA]) + uint32(0) + string("a request")))
        assert not pipe._reader.is_waiting_for_much
        one.owner.targets[0].send(b"an answer")
        await turns()
        assert not client.is_waiting_for_much
    finally:
        one.close()

"""A later key exchange may choose other ciphers, in each direction its own: no byte is lost or changed, on either path.

The client is asyncssh's own, over a real socket, with real exchanges while data is under way.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncssh
import pytest
from asyncssh.constants import MSG_KEXINIT
from asyncssh.packet import NameList
from hypothesis import example, given, settings
from hypothesis import strategies as st

from relay.core.settings import Limits
from relay.serve import ssh_algorithms
from relay.serve.worker.forward.read_pacing import PacedSocket, ReadPacer
from relay.serve.worker.ssh.connection import Connection
from relay.serve.worker.ssh.fastpath.from_client import ClientReader
from relay.serve.worker.ssh.fastpath.to_client import ClientWriter
from tests.serve import plain

CIPHERS = [name.encode() for name in (*ssh_algorithms.GCM, "aes128-ctr", "aes256-ctr", *ssh_algorithms.CHACHA)]
KEY = asyncssh.generate_private_key("ssh-ed25519")
FORWARDS = 2

# ciphers of what the client sends and of what it gets, who begins, bytes that each side sends before and behind it
Step = tuple[bytes, bytes, str, int, int]
SIZES = st.one_of(st.sampled_from([0, 1, 1 << 15, 200_000]), st.integers(0, 1 << 17))
STEPS = st.lists(
    st.tuples(
        st.sampled_from(CIPHERS),
        st.sampled_from(CIPHERS),
        st.sampled_from(["client", "relay", "both"]),
        SIZES,
        SIZES,
    ),
    min_size=1,
    max_size=5,
)


class Owner(plain.Owner):
    """Lets everybody in who has signed, or asyncssh's client would not have got here."""

    def begin_auth(self, username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def prove(self, username: str, blob: bytes, message: bytes, signature: bytes) -> bool:
        return True


def choose(client: Any, sends: bytes, gets: bytes) -> None:
    """Let the client's next key exchange agree on these two; asyncssh's client has one list for both directions."""
    client._enc_algs = [sends]
    pending, send_packet, choose_alg = [sends, gets], client.send_packet, type(client)._choose_alg

    def sent(kind: int, *args: bytes, **more: Any) -> None:
        if kind == MSG_KEXINIT:
            one = NameList([sends])
            args = (args[0].replace(one + one, one + NameList([gets]), 1),)
            client._client_kexinit = bytes([MSG_KEXINIT]) + args[0]
            client.send_packet = send_packet
        send_packet(kind, *args, **more)

    def chosen(kind: str, ours: Any, theirs: Any) -> bytes:
        ours = [pending.pop(0)] if kind == "encryption" and pending else ours
        found: bytes = choose_alg(client, kind, ours, theirs)
        return found

    client.send_packet, client._choose_alg = sent, chosen


def begin(side: Any) -> None:
    """Begin a key exchange, as asyncssh does when one is due."""
    if side._kex_complete:
        side._send_kexinit()
        side._kexinit_sent = True


@asynccontextmanager
async def connected(
    *, fast: bool, forwards: int, **more: int
) -> AsyncIterator[tuple[Any, Connection, Owner, list[Any]]]:
    """A client, the relay's end of it, the relay's owner of that, and the client's streams; `more`: of its channels."""
    loop = asyncio.get_running_loop()
    patience, owners, served = ReadPacer(), list[Owner](), list[Connection]()
    options = asyncssh.SSHServerConnectionOptions(
        server_host_keys=[plain.HOST_KEY],
        encryption_algs=[name.decode() for name in CIPHERS],
        mac_algs=ssh_algorithms.MAC,
        kex_algs=["curve25519-sha256"],
        compression_algs=None,
        gss_host=None,
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    ours.setblocking(False)

    def made() -> Connection:
        owners.append(Owner(ClientWriter(), patience, (1 << 20,)))
        reader = PacedSocket(patience, ours)
        one = Connection(loop, options, owners[0], Limits(), client_reader=ClientReader(), reader=reader, fast=fast)
        served.append(one)
        return one

    await loop.connect_accepted_socket(made, ours)
    client = await asyncssh.connect(
        "relay",
        sock=theirs,
        username="alice",
        client_keys=[KEY],
        known_hosts=None,
        config=None,
        encryption_algs=[CIPHERS[0].decode()],
        kex_algs=["curve25519-sha256"],
        compression_algs=None,
        agent_path=None,
    )
    try:
        async with asyncio.timeout(20):
            streams = [await client.open_connection("remote", 22, **more) for _ in range(forwards)]
            yield client, served[0], owners[0], streams
        assert owners[0].bugs == []
    finally:
        client.abort()
        for target in owners[0].targets:
            target.close()
        await client.wait_closed()
        while not served[0].ended:
            await asyncio.sleep(0)


async def carry(steps: list[Step], *, fast: bool) -> list[object]:
    """What targets and client have got, and the ciphers that each exchange came to."""
    async with connected(fast=fast, forwards=FORWARDS) as (client, relay, owner, streams):
        return await carried(steps, client, relay, owner, streams, fast=fast)


async def carried(
    steps: list[Step], client: Any, relay: Connection, owner: Owner, streams: list[Any], *, fast: bool
) -> list[object]:
    loop = asyncio.get_running_loop()
    got: list[object] = []

    async def up(number: int, data: bytes) -> None:
        streams[number][1].write(data)
        found = bytearray()
        while len(found) < len(data):
            found += await loop.sock_recv(owner.targets[number], 1 << 16)
        assert found == data

    async def down(number: int, data: bytes) -> None:
        await loop.sock_sendall(owner.targets[number], data)
        assert await streams[number][0].readexactly(len(data)) == data

    def traffic(index: int, size_up: int, size_down: int) -> list[Any]:
        size = max(size_up, size_down) + 1
        text = (bytes(range(index, 256)) * (size // (256 - index) + 1))[:size]
        return [
            one
            for number in range(FORWARDS)
            for one in (up(number, text[: size_up + number]), down(number, text[: size_down + number]))
        ]

    for index, (sends, gets, who, size_up, size_down) in enumerate(steps):
        choose(client, sends, gets)
        before = [asyncio.ensure_future(one) for one in traffic(2 * index, size_up, size_down)]
        await asyncio.sleep(0)
        for name, side in (("client", client), ("relay", relay)):
            if who in (name, "both"):
                begin(side)
        await asyncio.gather(*before)
        while (client.get_extra_info("send_cipher"), client.get_extra_info("recv_cipher")) != (
            sends.decode(),
            gets.decode(),
        ) or not (client._kex_complete and relay._kex_complete):
            await asyncio.sleep(0)
        await asyncio.gather(*traffic(2 * index + 1, size_up, size_down))
        path = relay.fast_path
        assert (path is not None) is fast
        if path is not None:
            assert (path.usable_decryptor is not None) is (b"gcm" in sends)
            assert path.can_send(1) is (b"gcm" in gets)
        got.append((relay.get_extra_info("recv_cipher"), relay.get_extra_info("send_cipher")))
    for _, writer in streams:
        writer.write_eof()
    for target in owner.targets:
        assert await loop.sock_recv(target, 1) == b""
        target.close()
    while len(owner.ends) < FORWARDS:
        await asyncio.sleep(0)
    return [got, owner.ends, [(pipe.sent, pipe.received) for pipe in owner.pipes]]


GCM128, GCM256, CTR, CTR256, CHACHA = CIPHERS


@given(STEPS)
@example(
    [
        (GCM256, GCM256, "client", 200_000, 200_000),
        (CTR, CTR, "relay", 200_000, 200_000),
        (CHACHA, CHACHA, "both", 200_000, 200_000),
        (GCM128, CTR256, "client", 200_000, 200_000),
        (CTR256, GCM128, "relay", 200_000, 200_000),
        (GCM128, GCM128, "both", 0, 200_000),
    ]
)
@settings(max_examples=25)  # a tenth of a second each
def test_a_key_exchange_may_choose_other_ciphers(steps: list[Step]) -> None:
    """Any sequence, whoever begins it, with data under way both ways: the same bytes and ends on both paths."""
    plain = asyncio.run(carry(steps, fast=False))
    fast = asyncio.run(carry(steps, fast=True))
    assert plain == fast
    assert plain[0] == [(sends.decode(), gets.decode()) for sends, gets, *_ in steps]


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "inherited"])
async def test_tiny_packets_do_not_make_an_exchange_of_ours_the_last(fast: bool) -> None:
    """A client that takes 256 bytes in a packet begins to read while the relay begins an exchange: it gets every byte.

    What waits for its windows is more packets than may be kept back for what a client provokes.
    """
    size, forwards = 400_000, 16
    async with connected(fast=fast, forwards=forwards, max_pktsize=256, window=1 << 16) as (_, relay, owner, streams):
        loop = asyncio.get_running_loop()
        sending = [asyncio.ensure_future(loop.sock_sendall(target, bytes(size))) for target in owner.targets]
        while not all(channel._send_buf and not channel._send_window for channel in relay._channels.values()):
            await asyncio.sleep(0)
        begin(relay)
        reading = [reader.readexactly(size) for reader, _ in streams]
        assert await asyncio.gather(*reading) == [bytes(size)] * forwards
        await asyncio.gather(*sending)

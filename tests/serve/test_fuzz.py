"""Any bytes at all: from strangers at the port, from persons behind the log-in, from a peer on the inner socket."""

import asyncio
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.serve.ipc import IpcLink, Message, chunks
from tests.relay_process import Relay
from tests.serve import hostile
from tests.serve.hostile import Client, Gone, load_key, string, uint32

pytestmark = pytest.mark.xdist_group("serve-fuzz")


async def _link(data: bytes, pieces: int) -> tuple[list[Message], bool]:
    """What a Link makes of those bytes: the messages, and whether it is still open at their end."""
    ours, theirs = socket.socketpair()
    got: list[Message] = []
    lost = asyncio.Event()
    link = IpcLink(ours, lambda _, message, descriptor: got.append(message), lambda _: lost.set())
    theirs.setblocking(False)
    size = max(1, len(data) // pieces)
    for at in range(0, len(data), size):
        try:
            theirs.send(data[at : at + size])
        except OSError:
            break
        await asyncio.sleep(0)
    for _ in range(4 + len(data) // 100):
        await asyncio.sleep(0)
    still = link.open
    theirs.close()
    async with asyncio.timeout(5):
        await lost.wait()
    return got, still


@given(data=st.binary(max_size=200), pieces=st.integers(1, 5))
def test_any_bytes_on_the_inner_socket_raise_nothing(data: bytes, pieces: int) -> None:
    """A Link given anything goes on or closes, and says once that it is lost."""
    asyncio.run(_link(data, pieces))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20), lambda inner: st.lists(inner, max_size=3)
)


@given(messages=st.lists(st.dictionaries(st.text(max_size=5), JSON, max_size=4), max_size=80), pieces=st.integers(1, 9))
def test_what_is_sent_arrives_whole_and_in_order(messages: list[Message], pieces: int) -> None:
    """However the stream is cut, the same objects come out, as long as none claims a descriptor it has not."""
    import json

    messages = [{key: value for key, value in message.items() if key != "fd"} for message in messages]
    bodies = [json.dumps(message).encode() for message in messages]
    data = b"".join(len(body).to_bytes(4, "big") + body for body in bodies)
    got, still = asyncio.run(_link(data, pieces))
    assert got == messages
    assert still


def test_a_frame_that_claims_a_descriptor_or_a_giant_size_closes_the_link() -> None:
    """Neither is waited for: the link is given up."""
    for data in (b'\0\0\0\x0c{"fd": true}', b"\x7f\xff\xff\xff", b"\0\0\0\2[]", b"\0\0\0\2\xff\xff"):
        got, still = asyncio.run(_link(data, 1))
        assert got == []
        assert not still


@given(lines=st.lists(st.text(max_size=50), max_size=40), most=st.integers(1, 200))
def test_chunks_keep_every_line_in_order(lines: list[str], most: int) -> None:
    """A document cut into frames is the same document, with exactly one first and one last frame."""
    frames = chunks("policy", "v", lines, most)
    assert [line for frame in frames for line in frame["lines"]] == lines
    assert [bool(frame.get("first")) for frame in frames] == [True] + [False] * (len(frames) - 1)
    assert [bool(frame.get("last")) for frame in frames] == [False] * (len(frames) - 1) + [True]


@given(data=st.binary(max_size=300), version=st.booleans())
def test_any_bytes_at_the_port_hurt_nobody(one: Relay, data: bytes, version: bool) -> None:
    """Raw bytes, with and without a version line before them: the worker lives and logs no traceback."""
    with Client(one.port, exchange=False) as client:
        try:
            client.send_raw((b"SSH-2.0-x\r\n" if version else b"") + data)
            client.sock.shutdown(socket.SHUT_WR)
            while True:
                client._need(len(client._in) + 1)
        except (Gone, OSError):
            pass


@given(kind=st.integers(0, 255), body=st.binary(max_size=120), exchanged=st.booleans())
def test_any_packet_before_log_in_hurts_nobody(one: Relay, kind: int, body: bytes, exchanged: bool) -> None:
    """Well-framed packets of any kind, before and after the key exchange."""
    with Client(one.port, exchange=False) as client:
        client.hello()
        if exchanged:
            client.exchange()
            client.service()
        try:
            client.send(bytes([kind]) + body, bytes([kind]) + body)
            client.sock.shutdown(socket.SHUT_WR)
            client.gone()
        except Gone:
            pass


KINDS = st.sampled_from([1, 2, 3, 4, 5, 6, 7, 20, 21, 30, 50, 52, 80, 81, 82, *range(90, 101), 192])
FIELDS = st.lists(
    st.one_of(
        st.sampled_from([b"direct-tcpip", b"session", b"exec", b"keepalive@openssh.com", b"tcpip-forward"]).map(string),
        st.binary(max_size=20).map(string),
        st.integers(0, 0xFFFFFFFF).map(uint32),
        st.integers(0, 3).map(uint32),
        st.booleans().map(lambda value: bytes([value])),
    ),
    max_size=8,
).map(b"".join)


@given(packets=st.lists(st.tuples(KINDS, FIELDS), min_size=1, max_size=6))
def test_any_packets_of_a_person_hurt_nobody_else(one: Relay, echo: int, packets: list[tuple[int, bytes]]) -> None:
    """Behind the log-in, with a forward open: packets that look nearly right, in any order."""
    with Client(one.port) as client:
        client.login("alice", load_key(one.key))
        client.open("remote", echo)
        try:
            client.send(*(bytes([kind]) + fields for kind, fields in packets))
            client.sock.shutdown(socket.SHUT_WR)
            client.gone()
        except Gone:
            pass


@given(host=st.binary(max_size=80) | st.text(max_size=40).map(str.encode), port=st.integers(0, 0xFFFFFFFF))
def test_any_target_is_answered(one: Relay, host: bytes, port: int) -> None:
    """A forward to anything is answered, and the connection lives on."""
    with Client(one.port) as client:
        client.login("alice", load_key(one.key))
        number, packet = client.ask(host, port)
        client.send(packet)
        assert client.answer(number)[0] in (hostile.OPEN_CONFIRMATION, hostile.OPEN_FAILURE)

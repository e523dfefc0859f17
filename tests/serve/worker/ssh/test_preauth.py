"""Log-ins that are dealt with at once (relay/serve/worker/ssh/preauth.py), against asyncssh's own dealing with each
packet."""

import asyncio
import functools
from collections.abc import Iterator
from typing import Any

import asyncssh
import pytest
from asyncssh.connection import SSHServerConnection
from asyncssh.constants import MSG_DISCONNECT, MSG_NEWKEYS, MSG_USERAUTH_REQUEST
from hypothesis import given
from hypothesis import strategies as st

from relay.serve.worker.ssh import key_exchange
from relay.serve.worker.ssh.key_exchange import KeyExchangeLayer, NegotiatedAlgorithms
from relay.serve.worker.ssh.preauth import LOGIN_PACKETS, REQUEST_USERAUTH
from tests.serve.hostile import string, uint32
from tests.serve.plain import Owner, Plain
from tests.serve.worker.ssh.test_memory import new_connection

ASYNCSSH = {**KeyExchangeLayer._packet_handlers, MSG_USERAUTH_REQUEST: SSHServerConnection._process_userauth_request}
KNOWN, GOOD = b"known key", b"good signature"


class Host(Owner):
    """Knows one key and one signature, and writes down what it is asked."""

    log: list[Any]

    def begin_auth(self, username: str) -> bool:
        self.log.append(("begin", username))
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def prove(self, username: str, blob: bytes, message: bytes, signature: bytes) -> bool:
        self.log.append((username, blob, message, signature))
        return blob == KNOWN and (not message or signature == GOOD)

    def auth_completed(self) -> None:
        self.log.append("in")


class Unproven(Plain):
    """A client whose keys are exchanged, and who has said nothing yet."""

    def __init__(self, *, fast: bool) -> None:
        super().__init__(fast=True)
        self.owner.__class__ = Host
        self.owner.log = []  # type: ignore[attr-defined]  # a list of this test
        connection = self.connection
        if not fast:  # packets are sealed alike, and nothing else is as it was
            connection.fast = False
            connection._packet_handlers = ASYNCSSH  # type: ignore[misc]
            connection.validate_public_key = self._prove  # type: ignore[method-assign]
            failure = functools.partial(SSHServerConnection.send_userauth_failure, connection)
            connection.send_userauth_failure = failure  # type: ignore[method-assign]
        connection._auth_complete = False
        connection._next_service = b"ssh-userauth"
        connection._username = ""

    async def _prove(self, *asked: Any) -> bool:
        return self.owner.prove(*asked)

    async def all_of(self, script: list[bytes]) -> Any:
        """What comes of these packets."""
        one = self.connection
        for payload in script:
            self.feed(self.packet(payload))
            for _ in range(12):
                await asyncio.sleep(0)
        one = self.connection
        owner: Any = self.owner
        # of a disconnect the code: there the language of the text differs, and nobody asks for a number any more
        heard = [payload[:5] if payload[0] == MSG_DISCONNECT else payload for payload in self.heard()]
        found = heard, owner.log, owner.bugs, one._auth_complete, one.gone, one.gone or one._recv_seq
        self.close()
        return found


def request(name: bytes, service: bytes, method: bytes, rest: bytes = b"") -> bytes:
    """A request to log in."""
    return b"\x32" + string(name) + string(service) + string(method) + rest


def key(signed: bytes, blob: bytes, signature: bytes = b"") -> bytes:
    """What a request by key goes on with."""
    return signed + string(b"ssh-ed25519") + string(blob) + signature


NAMES = st.sampled_from([b"alice", b"bob", b"", "ålice".encode(), "a\u00adb".encode(), b"\xff", b"a\0", b"x" * 1024])
KEYS = st.builds(
    key,
    st.sampled_from([b"\0", b"\1", b"\2", b""]),
    st.sampled_from([KNOWN, b"another", b""]),
    st.sampled_from([b"", string(GOOD), string(b"bad"), string(GOOD) + b"more", uint32(9) + b"short"]),
)
REQUESTS = st.builds(
    request,
    NAMES,
    st.sampled_from([b"ssh-connection"] * 9 + [b"ssh-userauth"]),
    st.sampled_from([b"publickey"] * 4 + [b"none", b"password", b"keyboard-interactive", b"hostbased"]),
    st.one_of(KEYS, st.just(b"")),
)
PACKETS = st.one_of(
    REQUESTS,
    REQUESTS,
    st.just(REQUEST_USERAUTH),
    st.sampled_from([b"\x05" + string(b"ssh-connection"), b"\x02" + string(b""), b"\x15", b"\x14", b"\x1e", b"\x32"]),
    # 60 to 79 go on with a method that is under way; after the offer of a key asyncssh says that it does not know them,
    # and here they end the connection
    st.binary(min_size=1, max_size=40).filter(lambda data: not 60 <= data[0] < 80),
)
LOG_IN = [
    REQUEST_USERAUTH,
    request(b"alice", b"ssh-connection", b"none"),
    request(b"alice", b"ssh-connection", b"publickey", key(b"\0", KNOWN)),
    request(b"alice", b"ssh-connection", b"publickey", key(b"\1", KNOWN, string(GOOD))),
]


@given(st.lists(PACKETS, max_size=8), st.integers(0, 4))
def test_what_is_dealt_with_at_once_comes_out_as_asyncssh_has_it(script: list[bytes], begun: int) -> None:
    """Any packets before log-in: the same answers, questions to the adapter, state and end, by both paths."""

    async def both() -> Any:
        return [await Unproven(fast=fast).all_of([*LOG_IN[:begun], *script]) for fast in (True, False)]

    at_once, inherited = asyncio.run(both())
    assert at_once == inherited


def sealed(one: Unproven, body: bytes) -> bytes:
    """One packet whose padding is what the client says."""
    data, tag = one._seal.encrypt_packet(one._sent, uint32(len(body)), body)
    one._sent += 1
    return data + tag


@given(st.integers(0, 255), st.integers(0, 20))
def test_a_padding_that_cannot_be_makes_no_other_packet(padding: int, behind: int) -> None:
    """None at all, or more than there is of the packet: no request is read into it, on either path."""
    body = bytes([padding]) + LOG_IN[0] + bytes(behind)

    async def what(fast: bool) -> Any:
        one = Unproven(fast=fast)
        one.feed(sealed(one, body))
        return await one.all_of([])

    assert asyncio.run(what(True)) == asyncio.run(what(False))


@pytest.mark.parametrize("fast", [True, False])
async def test_a_signature_behind_a_disconnect_logs_nobody_in(fast: bool) -> None:
    """Whoever has said that it is over (RFC 4253 11.1) is not heard any more, also within one read."""
    one = Unproven(fast=fast)
    goodbye = b"\x01" + uint32(11) + string(b"bye") + string(b"")
    one.feed(b"".join(map(one.packet, [LOG_IN[0], goodbye, LOG_IN[-1]])))
    _, log, bugs, logged_in, gone, _ = await one.all_of([])
    assert (log, bugs, logged_in, gone) == ([], [], False, True)


@pytest.mark.parametrize("offered", [False, True])
def test_a_log_in_in_one_piece_or_cut_anywhere(offered: bool) -> None:
    """NEWKEYS, all requests and a forward in one read, or in two: the same answers, and the forward is open."""
    script = LOG_IN if offered else [LOG_IN[0], LOG_IN[-1]]

    async def what(cut: int) -> Any:
        one = Unproven(fast=True)
        one.keys(bytes(32), at_once=False)
        opened = b"\x5a" + string("direct-tcpip") + uint32(0, 1 << 21, 1 << 15)
        opened += string("host") + uint32(22) + string("") + uint32(0)
        wire = one.new_keys() + b"".join(map(one.packet, [*script, opened]))
        for piece in (wire[:cut], wire[cut:]) if cut < len(wire) else (wire,):
            one.feed(piece)
            for _ in range(12):
                await asyncio.sleep(0)
        return len(wire), await one.all_of([])

    async def all_cuts() -> None:
        size, whole = await what(1 << 20)
        assert [payload[0] for payload in whole[0]] == [6, *([51, 60] if offered else []), 52, 91]
        for cut in range(1, size):
            assert await what(cut) == (size, whole), cut

    asyncio.run(all_cuts())


async def test_the_whole_of_a_log_in() -> None:
    """A refusal of `none`, a word for the known key, success for the signature: over exactly what was signed."""
    heard, log, bugs, logged_in, *_ = await Unproven(fast=True).all_of(LOG_IN)
    assert [payload[0] for payload in heard] == [6, 51, 60, 52]
    message = LOG_IN[-1][: -len(string(GOOD))]
    assert log == [("begin", "alice"), ("alice", KNOWN, b"", b""), ("alice", KNOWN, message, GOOD), "in"]
    assert (bugs, logged_in) == ([], True)


async def test_after_a_signature_others_have_their_turn() -> None:
    """Of ten signatures that come with one read, one is looked at in each turn."""
    one = Unproven(fast=True)
    turns: list[Any] = []
    one.owner.in_turn = turns.append  # type: ignore[method-assign]
    spoilt = request(b"alice", b"ssh-connection", b"publickey", key(b"\1", KNOWN, string(b"bad")))
    one.feed(one.packet(REQUEST_USERAUTH) + b"".join(one.packet(spoilt) for _ in range(10)))
    looked = []
    while turns:
        turns.pop()()
        looked.append(sum(len(entry) == 4 for entry in one.owner.log))  # type: ignore[attr-defined]  # likewise
    assert looked == list(range(1, 11))
    one.close()


async def test_packets_that_are_dealt_with_at_once_are_counted() -> None:
    """One request too many before log-in ends the connection."""
    one = Unproven(fast=True)
    offer = request(b"alice", b"ssh-connection", b"none")
    one.feed(one.packet(REQUEST_USERAUTH))
    for _ in range(LOGIN_PACKETS - 1):
        one.feed(one.packet(offer))
    assert not one.connection.gone
    one.feed(one.packet(offer))
    assert one.connection.gone
    one.close()


async def test_a_client_is_awaited_with_its_next_request_while_its_new_keys_alone_would_wake_us() -> None:
    """After our NEWKEYS we are woken for more than the client's; then, and whatever it sent, for every byte."""
    one = Unproven(fast=True)
    woken: list[int] = []
    one.connection.wake_for = woken.append  # type: ignore[method-assign]
    one.keys(bytes(32), at_once=False)
    one.feed(one.packet(b"\x02" + string(b"")))
    assert woken == [17]
    one.feed(one.new_keys() + one.packet(REQUEST_USERAUTH))
    assert woken == [17, 1]
    assert [payload[0] for payload in one.heard()] == [6]
    one.close()


def _agreed(connection: asyncssh.SSHServerConnection) -> Iterator[NegotiatedAlgorithms]:
    for number in range(key_exchange.OFFERS + 8):
        yield NegotiatedAlgorithms(
            b"%d" % number, b"curve25519-sha256", next(iter(connection._server_host_keys.values())), {}
        )


async def test_offers_are_remembered_of_those_who_proved_a_key_and_not_without_end() -> None:
    """The newest OFFERS of them, and none of other settings."""
    KeyExchangeLayer._remembered_of = None
    one = new_connection()
    for agreed in _agreed(one):
        one._offer = (agreed.ours, b"", True), agreed
        one.proven()
        assert one._offer is None
    assert len(KeyExchangeLayer._remembered) == key_exchange.OFFERS
    other = new_connection(rekey_bytes=12345)
    assert not other._known_offer(b"\x14" + bytes(16) + b"39")
    agreed = next(_agreed(other))
    other._offer = (agreed.ours, b"", True), agreed
    other.proven()
    assert len(KeyExchangeLayer._remembered) == 1


def test_the_kinds_that_are_dealt_with_at_once() -> None:
    """No other kind of packet, so none that follows a log-in, is dealt with outside of asyncssh before one."""
    assert sorted(kind[0] for kind in KeyExchangeLayer._plain) == [5, 20, MSG_NEWKEYS, 30, 50]

"""Packets in the clear of an unauthenticated client (RFC 4253 7, strict key exchange), by both paths."""

import contextlib
import os
from collections.abc import Callable, Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tests.relay_process import Relay, relay
from tests.serve import hostile
from tests.serve.hostile import Client, Gone, string, uint32

VERSIONS = (b"SSH-2.0-hostile\r\n", b"SSH-2.0-OpenSSH_9.9\r\n")  # the relay waits for the KEXINIT of the second


@pytest.fixture(scope="module")
def relays_of_both_paths(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Relay]]:
    """One relay with the fast path, and one without."""
    with contextlib.ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        relays = []
        for name in ("fast", "inherited"):
            relays.append(stack.enter_context(relay(tmp_path_factory.mktemp(name), settings="workers: 1\n")))
            patch.setenv("RELAY_FAST_PATH", "no")
        yield relays
        for one in relays:
            assert "bug of ours" not in one.log(), one.log()[-5000:]
            assert "Traceback" not in one.log(), one.log()[-5000:]


def point(data: bytes | None = None) -> bytes:
    """The client's message of the key exchange."""
    if data is None:
        data = X25519PrivateKey.generate().public_key().public_bytes_raw()
    return bytes([hostile.ECDH_INIT]) + string(data)


IGNORE = bytes([hostile.IGNORE]) + string(b"x")
SERVICE = bytes([hostile.SERVICE_REQUEST]) + string("ssh-userauth")
NEWKEYS = bytes([hostile.NEWKEYS])
NONE = bytes([hostile.USERAUTH_REQUEST]) + string("alice") + string("ssh-connection") + string("none")
PACKETS: dict[str, Callable[[bytes], list[bytes]]] = {
    "ignore first": lambda offer: [IGNORE, offer, point()],
    "ignore behind the offer": lambda offer: [offer, IGNORE, point()],
    "debug behind the offer": lambda offer: [offer, bytes([hostile.DEBUG]) + b"\1" + string("x") + string(""), point()],
    "ignore before the new keys": lambda offer: [offer, point(), IGNORE, NEWKEYS],
    "unknown behind the offer": lambda offer: [offer, bytes([199]), point()],
    "unknown before the new keys": lambda offer: [offer, point(), bytes([192]), NEWKEYS],
    "two offers": lambda offer: [offer, offer],
    "an offer behind the exchange": lambda offer: [offer, point(), offer],
    "two exchanges": lambda offer: [offer, point(), point()],
    "an exchange first": lambda offer: [point(), offer],
    "new keys first": lambda offer: [NEWKEYS, offer],
    "new keys without an exchange": lambda offer: [offer, NEWKEYS],
    "new keys with more": lambda offer: [offer, point(), NEWKEYS + bytes(20)],
    "a service in the clear": lambda offer: [offer, point(), SERVICE],
    "a log-in in the clear": lambda offer: [offer, point(), NONE],
    "a service before all": lambda offer: [SERVICE],
    "a log-in before all": lambda offer: [NONE],
    "no point": lambda offer: [offer, point(b"")],
    "a point of nothing": lambda offer: [offer, point(bytes(32))],
    "a point of small order": lambda offer: [offer, point(b"\1" + bytes(31))],
    "a short point": lambda offer: [offer, point(bytes(31))],
    "a long point": lambda offer: [offer, point(os.urandom(33))],
    "a point with more": lambda offer: [offer, point() + b"x"],
    "half a point": lambda offer: [offer, bytes([hostile.ECDH_INIT]) + uint32(32) + b"x"],
    "an offer with more": lambda offer: [offer + b"x", point()],
    "half an offer": lambda offer: [offer[:60], point()],
    "an empty offer": lambda offer: [offer[:17] + uint32(*[0] * 10) + bytes(5), point()],
    "a cookie alone": lambda offer: [offer[:17]],
    "an offer without a cookie": lambda offer: [offer[:1]],
    "what is sealed, in the clear": lambda offer: [offer, point(), NEWKEYS, SERVICE, SERVICE],
}


def heard(one: Relay, version: bytes, name: str, *, together: bool) -> tuple[list[int], bytes]:
    """The types of the relay's packets in the clear until it disconnects, and the disconnect itself."""
    with Client(one.port, exchange=False) as client:
        client.hello(version)
        packets = [client.frame(payload) for payload in PACKETS[name](client.kexinit())]
        with contextlib.suppress(Gone):
            for piece in [b"".join(packets)] if together else packets:
                client.send_raw(piece)
        said = bytes(client._in)
        with contextlib.suppress(ConnectionResetError):
            while data := client.sock.recv(1 << 16):  # a time-out fails the test
                said += data
    kinds = []
    while said and hostile.NEWKEYS not in kinds:
        kinds.append(said[5])
        if said[5] == hostile.DISCONNECT:
            return kinds, said[6 : 4 + int.from_bytes(said[:4], "big") - said[4]]
        said = said[4 + int.from_bytes(said[:4], "big") :]
    return kinds, b""


@pytest.mark.parametrize("together", [True, False], ids=["one read", "apart"])
@pytest.mark.parametrize("version", VERSIONS, ids=["waits", "speaks first"])
@pytest.mark.parametrize("name", PACKETS)
def test_what_is_out_of_turn_in_the_clear_ends_the_connection(
    relays_of_both_paths: list[Relay], name: str, version: bytes, together: bool
) -> None:
    """Terrapin (CVE-2023-48795) and the like: no packet before, within or instead of an exchange is accepted."""
    fast, inherited = (heard(one, version, name, together=together) for one in relays_of_both_paths)
    assert fast == inherited
    assert not {*fast[0]} - {hostile.KEXINIT, hostile.ECDH_REPLY, hostile.NEWKEYS, hostile.DISCONNECT}

"""What the relay relies on in asyncssh, row by row of the contract, where no other file here shows it."""

import importlib.metadata
import inspect
import re
import socket
import time
from pathlib import Path

import pytest
from asyncssh.connection import SSHConnection, SSHServerConnection

from relay.serve import algorithms, connection, settled
from relay.serve.adapter import Adapter
from tests.relay_process import Relay, echo_server, relay
from tests.serve import hostile
from tests.serve.hostile import Client, Gone, load_key, string, uint32

pytestmark = pytest.mark.xdist_group("serve-contract")


def test_every_private_member_that_is_touched_is_there() -> None:
    """Each name in TOUCHED is a member of the installed asyncssh, and each private member used is in TOUCHED."""
    source = inspect.getsource(SSHConnection) + inspect.getsource(SSHServerConnection)
    for name in (*connection.TOUCHED, *settled.TOUCHED):
        assert re.search(rf"\b{name}\b", source), f"asyncssh {importlib.metadata.version('asyncssh')} has no {name}"


@pytest.mark.parametrize("name", ["root", "", "alice", "\0", "x" * 1000])
def test_begin_auth_is_always_true(one: Relay, name: str) -> None:
    """asyncssh logs a client in without a credential when begin_auth is not true: "none" is refused for all."""
    assert inspect.signature(Adapter.begin_auth).return_annotation is bool
    assert not inspect.iscoroutinefunction(Adapter.begin_auth)
    with Client(one.port) as client:
        client.service()
        try:
            client.send(client.request(name, "none"))
            assert client.receive()[0] == hostile.USERAUTH_FAILURE
        except Gone:
            pass  # a name that cannot be prepared (RFC 4013) ends the connection


def test_only_pinned_algorithms_are_offered(one: Relay) -> None:
    """The relay's KEXINIT has our lists and nothing of the library's: no SHA-1, no CBC, no NIST curves, no zlib."""
    with Client(one.port, exchange=False) as client:
        client.hello()
        lists = [part.decode().split(",") for part in hostile.strings(client.expect(hostile.KEXINIT)[17:])[:8]]
    assert [name for name in lists[0] if not name.startswith(("kex-strict", "ext-info"))] == list(algorithms.KEX)
    assert lists[1] == ["ssh-ed25519"]
    ciphers = {*algorithms.GCM, *algorithms.CTR, *algorithms.CHACHA}
    assert set(lists[2]) | set(lists[3]) <= ciphers
    assert set(lists[4]) == set(lists[5]) == set(algorithms.MAC)
    assert lists[6] == lists[7] == ["none"]


def test_a_wrong_guess_is_skipped(one: Relay, echo: int) -> None:
    """RFC 4253 7.1: a guess is wrong unless the first entries agree; Dropbear always guesses."""
    with Client(one.port, exchange=False) as client:
        client.hello()
        plain = client.kexinit

        def guessing(*, follows: bool = True, kex: str = "curve25519-sha256") -> bytes:
            return plain(follows=follows, kex=kex)

        send = client.send
        guessed = []

        def with_guess(*payloads: bytes) -> None:
            send(*payloads)
            if payloads[0][0] == hostile.KEXINIT:
                guessed.append(True)
                send(bytes([hostile.ECDH_INIT]) + string(bytes(range(32))))

        client.kexinit = guessing  # type: ignore[method-assign]  # a client that lies
        client.send = with_guess  # type: ignore[method-assign]  # likewise
        client.exchange()
        assert guessed
        client.login("alice", load_key(one.key))
        client.echo("remote", echo)


def test_an_unfit_key_exchange_ends_with_a_reason(one: Relay) -> None:
    """No algorithm in common, points of the wrong size or order: a disconnect, no traceback."""
    with Client(one.port, exchange=False) as client:
        client.hello()
        client.send(client.kexinit(kex="diffie-hellman-group1-sha1"))
        with pytest.raises(Gone):
            while True:
                client.receive()
    for point in (b"", bytes(32), bytes(31), bytes(33), b"\xff" * 32, bytes(100_000)):
        with Client(one.port, exchange=False) as client:
            client.hello()
            client.send(client.kexinit())
            try:
                client.send(bytes([hostile.ECDH_INIT]) + string(point))
                client.sock.shutdown(socket.SHUT_WR)
                client.gone()
            except (Gone, OSError):
                pass


@pytest.mark.slow
def test_a_silent_client_is_asked_and_given_up(tmp_path: Path) -> None:
    """A client that answers no keepalive is gone; one that answers stays. Its forwards get their rows."""
    settings = "workers: 1\nlimits: {keepalive_interval: 1s, keepalive_count: 1}\n"
    with relay(tmp_path, settings=settings) as one, echo_server() as port:
        with Client(one.port) as silent, Client(one.port) as answering:
            for client in (silent, answering):
                client.login("alice", load_key(one.key))
                client.open("remote", port)
            deadline = time.monotonic() + 3.5
            while time.monotonic() < deadline:
                request = answering.expect(hostile.GLOBAL_REQUEST)
                if b"keepalive" in request:
                    answering.send(bytes([hostile.REQUEST_FAILURE]))
            silent.gone()
            answering.echo("remote", port)
        one.wait_row("connection.closed", detail="client does not answer keepalives")


def test_half_close_in_both_orders_ends_the_channel(one: Relay) -> None:
    """Destination EOF first, then the client's: the channel is closed (asyncssh's own forwarder hangs for ever)."""
    with socket.create_server(("127.0.0.2", 0)) as listener, Client(one.port) as client:
        client.login("alice", load_key(one.key))
        for target_first in (True, False):
            number, channel = client.open("remote", listener.getsockname()[1])
            sock, _ = listener.accept()
            with sock:
                if target_first:
                    sock.sendall(b"bye")
                    sock.shutdown(socket.SHUT_WR)
                    assert client.read(number, 3) == b"bye"
                    client.expect(hostile.EOF)
                    client.write(channel, b"later")
                    client.send(bytes([hostile.EOF]) + uint32(channel))
                    assert sock.recv(5) == b"later"
                    assert sock.recv(5) == b""
                else:
                    client.write(channel, b"done")
                    client.send(bytes([hostile.EOF]) + uint32(channel))
                    assert sock.recv(4) == b"done"
                    assert sock.recv(4) == b""
                    sock.sendall(b"answer")
                    sock.shutdown(socket.SHUT_WR)
                    assert client.read(number, 6) == b"answer"
                client.expect(hostile.CLOSE)
                client.send(bytes([hostile.CLOSE]) + uint32(channel))

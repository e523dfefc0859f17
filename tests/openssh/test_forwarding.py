"""Many forwards, much data, new keys on the way: `-L`, `-D`, rekeying and load, with the real client."""

import hashlib
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.openssh.lan import BEYOND, Lan, answers, connect_unix, echoes, ended, exactly, free_port
from tests.relay_process import Relay, echo_server, relay, wait_for

pytestmark = pytest.mark.system


def socks(proxy: int, host: str, port: int, *, by_name: bool) -> socket.socket:
    """Ask a SOCKS5 proxy (RFC 1928) for a connection; the answer is not read."""
    sock = socket.create_connection(("127.0.0.1", proxy), 10)
    sock.settimeout(30)
    sock.sendall(b"\x05\x01\x00")
    address = b"\x03" + bytes([len(host)]) + host.encode() if by_name else b"\x01" + socket.inet_aton(host)
    greeting = exactly(sock, 2)
    sock.sendall(b"\x05\x01\x00" + address + port.to_bytes(2, "big"))
    if greeting != b"\x05\x00":
        sock.close()
    return sock


def test_each_socks_target_is_judged(lan: Lan) -> None:
    """Through one `-D`: each target is judged alone, by name and by address; a refusal ends only its own stream."""
    proxy = free_port()
    with (
        echo_server() as allowed,
        echo_server(BEYOND) as denied,
        lan.background("-N", "-D", f"127.0.0.1:{proxy}", "relay", ready=lambda: answers("127.0.0.1", proxy)),
        socks(proxy, "remote", allowed, by_name=True) as first,
    ):
        assert exactly(first, 10)[:2] == b"\x05\x00"
        assert echoes(first)
        for host, by_name in ((BEYOND, False), (BEYOND, True), ("nowhere", True), ("localhost", True)):
            with socks(proxy, host, denied, by_name=by_name) as refused:
                # OpenSSH says yes before it knows, and closes when it learns of the refusal
                assert ended(refused)[:10] in (b"", b"\x05\x00\x00\x01" + bytes(6))
            lan.relay.wait_row("forward.denied", asked=f"{host}:{denied}")
        with socks(proxy, "127.0.0.2", allowed, by_name=False) as second:
            assert exactly(second, 10)[:2] == b"\x05\x00"
            assert echoes(second)
        assert echoes(first)
    asked = [row["asked"] for row in lan.relay.rows("forward.opened") if row["port"] in (allowed, denied)]
    assert asked == [f"remote:{allowed}", f"127.0.0.2:{allowed}"]


def test_a_local_port(lan: Lan) -> None:
    """`ssh -L PORT:remote:PORT` carries several streams at once, each with its own pair of rows."""
    local = free_port()
    forward = f"127.0.0.1:{local}:remote"
    with (
        echo_server() as port,
        lan.background("-N", "-L", f"{forward}:{port}", "relay", ready=lambda: answers("127.0.0.1", local)),
        ExitStack() as stack,
    ):
        streams = [stack.enter_context(socket.create_connection(("127.0.0.1", local), 10)) for _ in range(5)]
        for number, stream in enumerate(streams):
            assert echoes(stream, f"stream {number}".encode())
        stack.close()
        # the probe that asked whether ssh listens was one more forward
        wait_for(lambda: len(_closed(lan.relay, port)) == 6, "a forward was not closed")
    assert len([row for row in lan.relay.rows("forward.opened") if row["port"] == port]) == 6


def test_two_hundred_forwards_at_once(lan: Lan, tmp_path: Path) -> None:
    """200 forwards through one connection, all open at the same time: none is lost, each carries its own bytes."""
    sock = tmp_path / "l"
    with (
        echo_server(greeting=b"hello") as port,
        lan.background("-N", "-L", f"{sock}:remote:{port}", "relay", ready=sock.exists),
        ExitStack() as stack,
    ):
        streams = []
        for number in range(200):
            stream = stack.enter_context(connect_unix(sock))
            stream.sendall(b"%05d" % number)
            streams.append(stream)
        for number, stream in enumerate(streams):
            assert exactly(stream, 10) == b"hello%05d" % number
        for stream in streams:
            assert echoes(stream)
    wait_for(lambda: len(_closed(lan.relay, port)) == 200, "not every forward has its closing row")
    opened = [row["forward"] for row in lan.relay.rows("forward.opened") if row["port"] == port]
    assert len(opened) == len(set(opened)) == 200


def test_more_forwards_than_allowed(lan: Lan, tmp_path: Path) -> None:
    """Beyond 256 forwards in one connection the next is refused, open ones go on, and a freed place is used."""
    sock = tmp_path / "l"
    with (
        echo_server() as port,
        lan.background("-N", "-L", f"{sock}:remote:{port}", "relay", ready=sock.exists),
        ExitStack() as stack,
    ):
        streams = [stack.enter_context(connect_unix(sock)) for _ in range(256)]
        for stream in streams:
            assert echoes(stream, b"x")
        with connect_unix(sock) as one_more:
            assert ended(one_more) == b""
        assert all(echoes(stream, b"y") for stream in streams)
        streams.pop().close()

        def room() -> bool:
            with connect_unix(sock) as again:
                with suppress(OSError):  # it may be closed already
                    again.sendall(b"z")
                    again.shutdown(socket.SHUT_WR)
                return ended(again) == b"z"

        wait_for(room, "the place of a closed forward was never given back")


def test_forty_clients_at_once(lan: Lan) -> None:
    """48 separate clients, each its own log-in and forward at the same moment: none is lost."""
    with echo_server() as port:
        command = ["ssh", *lan.relay.ssh_options(), "-W", f"remote:{port}", "relay"]
        clients = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            for _ in range(48)
        ]
        outcomes = []
        for number, client in enumerate(clients):
            out, error = client.communicate(b"client %d" % number, timeout=60)
            outcomes.append((out, client.returncode, error))
    assert [(out, status) for out, status, _ in outcomes] == [(b"client %d" % number, 0) for number in range(48)], [
        error for _, status, error in outcomes if status
    ]


@contextmanager
def source(size: int, seed: bytes) -> Iterator[tuple[int, str]]:
    """A server that sends `size` bytes to the first who connects, made as they go; its port and their checksum."""
    block = hashlib.shake_128(seed).digest(1 << 20)
    digest = hashlib.sha256()
    for number in range(size >> 20):
        digest.update(number.to_bytes(8, "big") + block[8:])
    with socket.create_server(("127.0.0.2", 0)) as listener:

        def send() -> None:
            peer, _ = listener.accept()
            with peer:
                for number in range(size >> 20):
                    peer.sendall(number.to_bytes(8, "big") + block[8:])

        thread = threading.Thread(target=send, daemon=True)
        thread.start()
        yield listener.getsockname()[1], digest.hexdigest()
        thread.join(10)


@contextmanager
def sink() -> Iterator[tuple[int, list[str]]]:
    """A server that takes everything and answers with its checksum; its port and the checksums."""
    found: list[str] = []
    with socket.create_server(("127.0.0.2", 0)) as listener:

        def take() -> None:
            peer, _ = listener.accept()
            digest = hashlib.sha256()
            with peer:
                while data := peer.recv(1 << 18):
                    digest.update(data)
                found.append(digest.hexdigest())
                peer.sendall(found[0].encode())

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        yield listener.getsockname()[1], found
        thread.join(10)


def download(lan: Lan, port: int, *options: str) -> str:
    """The checksum of everything that target sends, taken by `ssh -W`."""
    digest = hashlib.sha256()
    with subprocess.Popen(
        ["ssh", *lan.relay.ssh_options(), *options, "-W", f"remote:{port}", "relay"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    ) as client:
        assert client.stdout is not None
        while data := client.stdout.read1(1 << 18):
            digest.update(data)
    assert client.returncode == 0
    return digest.hexdigest()


def test_new_keys_under_load(lan: Lan) -> None:
    """RekeyLimit=1M, 24 MiB up and 24 MiB down at the same time: every byte arrives, and keys were exchanged."""
    size = 24 << 20
    data = hashlib.shake_128(b"up").digest(size)
    log = lan.relay.directory / "rekey.log"
    options = ["-o", "RekeyLimit=1M", "-v", "-E", str(log)]
    with source(size, b"down") as (down, expected), sink() as (up, found):
        client = subprocess.Popen(
            ["ssh", *lan.relay.ssh_options(), "-o", "RekeyLimit=1M", "-W", f"remote:{up}", "relay"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        got: list[str] = []
        thread = threading.Thread(target=lambda: got.append(download(lan, down, *options)), daemon=True)
        thread.start()
        out, error = client.communicate(data, timeout=60)
        thread.join(60)
    assert out.decode() == found[0] == hashlib.sha256(data).hexdigest(), error
    assert got == [expected]
    assert log.read_text().count("SSH2_MSG_NEWKEYS received") >= 10


@pytest.mark.parametrize("cipher", ["aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com"])
def test_the_other_ciphers_carry_every_byte_too(tmp_path: Path, cipher: str) -> None:
    """A cipher of the fast path and one of the inherited path, there and back at once, with new keys for each MiB."""
    data = os.urandom(5 << 20)
    with relay(tmp_path, settings="workers: 1\nchacha: yes\n") as one, echo_server() as port:
        log = tmp_path / "ssh.log"
        options = ["-c", cipher, "-o", "RekeyLimit=1M", "-v", "-E", str(log)]
        done = one.ssh(*options, "-W", f"remote:{port}", "relay", stdin=data)
    assert done.stdout == data
    assert f"cipher: {cipher}" in log.read_text()
    assert log.read_text().count("SSH2_MSG_NEWKEYS received") >= 5


def test_new_keys_with_many_forwards_in_both_directions(lan: Lan, tmp_path: Path) -> None:
    """Ten echo streams in one connection that exchanges keys every MiB: each gets back exactly what it sent."""
    sock = tmp_path / "l"
    problems: list[str] = []

    def stream(number: int) -> None:
        data = os.urandom(1 << 20)
        with connect_unix(sock) as through:
            sender = threading.Thread(target=through.sendall, args=(data,), daemon=True)
            sender.start()
            if exactly(through, len(data)) != data:
                problems.append(f"stream {number} differs")
            sender.join(20)

    with (
        echo_server() as port,
        lan.background(
            "-N", "-o", "RekeyLimit=1M", "-L", f"{sock}:remote:{port}", "relay", ready=sock.exists
        ) as client,
    ):
        threads = [threading.Thread(target=stream, args=(number,), daemon=True) for number in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert client.poll() is None, lan.said()
    assert problems == []
    assert len(_closed(lan.relay, port)) == 10


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["-c", "aes128-gcm@openssh.com"]], ids=["default", "gcm"])
def test_a_gibibyte(lan: Lan, options: list[str]) -> None:
    """1 GiB through the relay has the checksum it had before, and the row has its exact size."""
    size = 1 << 30
    with source(size, b"big") as (port, expected):
        assert download(lan, port, *options) == expected
    assert lan.relay.wait_row("forward.closed", port=port)["received"] == size


def test_a_target_that_ends_half_way(lan: Lan, tmp_path: Path) -> None:
    """A target that resets its connection ends that forward, with the reason on record; its neighbour goes on."""
    sock, other = tmp_path / "l", tmp_path / "o"
    with (
        socket.create_server(("127.0.0.2", 0)) as listener,
        echo_server() as port,
        lan.background(
            "-N",
            "-L", f"{sock}:remote:{listener.getsockname()[1]}",
            "-L", f"{other}:remote:{port}",
            "relay",
            ready=other.exists,
        ),
        connect_unix(other) as neighbour,
        connect_unix(sock) as through,
    ):  # fmt: skip
        assert echoes(neighbour)
        through.sendall(b"x")
        peer, _ = listener.accept()
        assert exactly(peer, 1) == b"x"
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # close sends a reset
        peer.close()
        assert exactly(through, 1) == b""
        assert echoes(neighbour)
        row = lan.relay.wait_row("forward.closed", port=listener.getsockname()[1])
        assert row["reason"] == "target-reset"


def _closed(relay: Relay, port: int) -> list[str]:
    return [row["forward"] for row in relay.rows("forward.closed") if row.get("port") == port]

"""Clients that are not OpenSSH: paramiko (behind many tools), Dropbear (routers, NAS, initramfs) and PuTTY."""

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paramiko
import pytest

from tests.openssh.lan import BEYOND, USER, Lan, exactly
from tests.relay_process import Relay, echo_server, relay

pytestmark = pytest.mark.system


@contextmanager
def paramiko_transport(lan: Lan) -> Iterator[paramiko.Transport]:
    """Alice's connection to the relay, made by paramiko."""
    with socket.create_connection(("127.0.0.1", lan.relay.port), 10) as sock:
        transport = paramiko.Transport(sock)
        try:
            transport.start_client(timeout=10)
            transport.auth_publickey("alice", alice(lan))
            yield transport
        finally:
            transport.close()
            transport.join(10)


def alice(lan: Lan) -> paramiko.Ed25519Key:
    """Her key, read by paramiko."""
    return paramiko.Ed25519Key.from_private_key_file(str(lan.relay.key))


def test_paramiko_jumps(lan: Lan) -> None:
    """paramiko's ssh through a direct-tcpip channel of paramiko runs a command on the host behind."""
    with paramiko_transport(lan) as transport:
        channel = transport.open_channel("direct-tcpip", ("remote", lan.sshd.port), ("127.0.0.1", 0), timeout=10)
        inner = paramiko.SSHClient()
        inner.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        inner.connect("remote", username=USER, pkey=alice(lan), sock=channel, look_for_keys=False, allow_agent=False)
        _, output, _ = inner.exec_command("echo from behind", timeout=10)
        assert output.read() == b"from behind\n"
        inner.close()
    opened = lan.relay.wait_row("forward.opened", asked=f"remote:{lan.sshd.port}")
    assert "paramiko" in str(opened["client_version"])


def test_paramiko_streams_and_half_closes(lan: Lan) -> None:
    """A bulk stream by paramiko comes back whole from an echo server, its end included."""
    data = bytes(range(256)) * 8192
    with echo_server() as port, paramiko_transport(lan) as transport:
        channel = transport.open_channel("direct-tcpip", ("remote", port), ("127.0.0.1", 0), timeout=10)
        channel.settimeout(30)

        def send() -> None:
            channel.sendall(data)
            channel.shutdown_write()

        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        got = bytearray()
        while more := channel.recv(1 << 16):
            got += more
        sender.join(10)
    assert got == data


def test_paramiko_is_refused_what_is_refused(lan: Lan) -> None:
    """A session, another target and a remote forward are refused, and then a forward still opens."""
    with echo_server() as port, paramiko_transport(lan) as transport:
        for kind, target in (("session", None), ("direct-tcpip", (BEYOND, port))):
            with pytest.raises(paramiko.ChannelException) as refused:
                transport.open_channel(kind, target, ("127.0.0.1", 0), timeout=10)
            assert refused.value.code == 1  # administratively prohibited
        with pytest.raises(paramiko.SSHException, match="denied"):
            transport.request_port_forward("", 0)
        channel = transport.open_channel("direct-tcpip", ("remote", port), ("127.0.0.1", 0), timeout=10)
        channel.sendall(b"x")
        assert channel.recv(1) == b"x"


def test_paramiko_exchanges_keys_anew(lan: Lan) -> None:
    """paramiko asks for new keys in the middle of a stream, and the stream goes on."""
    with echo_server() as port, paramiko_transport(lan) as transport:
        channel = transport.open_channel("direct-tcpip", ("remote", port), ("127.0.0.1", 0), timeout=10)
        channel.settimeout(30)
        for _ in range(3):
            channel.sendall(b"before")
            transport.renegotiate_keys()
            channel.sendall(b"after")
            got = b""
            while len(got) < 11:
                got += channel.recv(100)
            assert got == b"beforeafter"


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """A relay as it comes; Dropbear, which has neither AES-GCM nor our MACs, is offered chacha20 by its name."""
    with relay(tmp_path_factory.mktemp("stock")) as one:
        yield one


def dbclient(one: Relay, directory: Path, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run Dropbear's client as alice; its own key format, and no known_hosts of the user."""
    key = directory / "alice.dropbear"
    made = subprocess.run(
        ["dropbearconvert", "openssh", "dropbear", str(one.key), str(key)], capture_output=True, timeout=20
    )
    assert made.returncode == 0, made.stderr
    return subprocess.run(
        ["dbclient", "-y", "-y", "-i", str(key), "-p", str(one.port), *arguments, "alice@127.0.0.1"],
        input=stdin,
        capture_output=True,
        timeout=30,
        env={"HOME": str(directory), "PATH": "/usr/bin:/bin"},
    )


def test_dropbear_guesses_and_gets_in(stock: Relay, tmp_path: Path) -> None:
    """Dropbear sends its first exchange packet unasked (RFC 4253 7.1); it logs in, and its bytes go through."""
    with echo_server(greeting=b"hello ") as port:
        done = dbclient(stock, tmp_path, "-B", f"remote:{port}", stdin=b"dropbear")
    assert done.stdout == b"hello dropbear", done.stderr
    opened = stock.wait_row("forward.opened", asked=f"remote:{port}")
    assert "dropbear" in str(opened["client_version"])


def test_dropbear_is_refused_a_shell(stock: Relay, tmp_path: Path) -> None:
    """Dropbear asking for a shell is refused and ends, without a hang (its exit status is 0 then: its own habit)."""
    done = dbclient(stock, tmp_path, "-T")
    assert done.stdout == b""
    stock.wait_row("request.refused", kind="channel", type="session")


def plink(one: Relay, directory: Path, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run PuTTY's plink as alice; its own key format, the relay's key by its fingerprint."""
    key = directory / "alice.ppk"
    made = subprocess.run(
        ["puttygen", str(one.key), "-O", "private", "-o", str(key)],
        capture_output=True,
        timeout=20,
        stdin=subprocess.DEVNULL,
    )
    assert made.returncode == 0, made.stderr
    host = one.ctl("host-key", "list").split()
    pinned = next(word for word in host if word.startswith("SHA256:"))
    account = ["-P", str(one.port), "-l", "alice", "-i", str(key), "-hostkey", pinned]
    return subprocess.run(
        ["plink", "-batch", "-ssh", *account, *arguments, "127.0.0.1"],
        input=stdin,
        capture_output=True,
        timeout=60,
        env={"HOME": str(directory), "PATH": "/usr/bin:/bin"},
    )


def test_plink_connects_through(stock: Relay, tmp_path: Path) -> None:
    """`plink -nc`, as PuTTY's proxy command has it: packets of 16 KiB, and every byte comes back."""
    data = bytes(range(256)) * (1 << 12)
    with echo_server(greeting=b"hello ") as port:
        done = plink(stock, tmp_path, "-nc", f"remote:{port}", stdin=data)
    assert done.stdout == b"hello " + data, done.stderr
    opened = stock.wait_row("forward.opened", asked=f"remote:{port}")
    assert "PuTTY" in str(opened["client_version"])


def test_plink_is_told_why_there_is_no_shell(stock: Relay, tmp_path: Path) -> None:
    """Asking for a shell it shows our words, and fails."""
    done = plink(stock, tmp_path)
    assert done.returncode != 0
    assert b"opens no shell" in done.stderr


def test_a_bare_socket_gets_the_version_line(lan: Lan) -> None:
    """Whoever connects is answered with an SSH version line (RFC 4253 4.2) before saying anything."""
    with socket.create_connection(("127.0.0.1", lan.relay.port), 10) as sock:
        assert exactly(sock, 8) == b"SSH-2.0-"

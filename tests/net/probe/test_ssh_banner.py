"""One connection to a port: a banner, another text, silence; and the disconnect message that the server gets."""

import contextlib
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.net.probe import ssh_banner
from relay.net.probe.ssh_banner import BannerOutcome, SshBanner
from tests.net.conftest import Namespace

HERE = ip_address("127.0.0.1")


@contextlib.contextmanager
def server(serve: Callable[[socket.socket], None], buffer: int = 0) -> Iterator[int]:
    """A port of one connection; `buffer`: bytes that are taken in unread, at least about."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        if buffer:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)

        def accept() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                serve(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def read_banner(port: int, timeout: float = 5) -> SshBanner:
    """Ask 127.0.0.1."""
    return ssh_banner.read_banner(HERE, port, interface="", timeout=timeout)


def says(text: bytes) -> Callable[[socket.socket], None]:
    """A server that says this and reads until the end."""

    def serve(connection: socket.socket) -> None:
        connection.sendall(text)
        while connection.recv(65536):
            pass

    return serve


@pytest.mark.parametrize(
    ("text", "outcome", "shown"),
    [
        (b"SSH-2.0-OpenSSH_9.9\r\n", BannerOutcome.GREETED, "SSH-2.0-OpenSSH_9.9"),
        (b"SSH-1.99-old\n", BannerOutcome.GREETED, "SSH-1.99-old"),
        (b"welcome\r\nto us\r\nSSH-2.0-x comment\r\nrest", BannerOutcome.GREETED, "SSH-2.0-x comment"),
        (b"SSH-2.0-\x1b[31mred\r\n", BannerOutcome.GREETED, r"SSH-2.0-\x1b[31mred"),
        (b"hello\r\n" * 20, BannerOutcome.OTHER, "hello"),
        (b"x" * 6000, BannerOutcome.OTHER, "x" * 77 + "..."),
    ],
)
def test_a_greeting_is_found_among_other_lines(text: bytes, outcome: BannerOutcome, shown: str) -> None:
    """RFC 4253 4.2: lines may precede it; endless lines, too many lines and escape codes are not accepted."""
    with server(says(text)) as port:
        found = read_banner(port)
    assert (found.outcome, found.text, found.source, found.unsent) == (outcome, shown, "127.0.0.1", 0)


def test_a_server_that_says_something_else_is_quoted() -> None:
    """A port with another service shows its first line, and one that closes at once an empty one."""
    with server(lambda connection: connection.sendall(b"Not allowed at this time\r\n")) as port:
        assert read_banner(port).text == "Not allowed at this time"
    with server(lambda connection: None) as port:
        assert (found := read_banner(port)).outcome is BannerOutcome.OTHER
        assert found.text == ""


def test_a_server_that_says_nothing_is_mute() -> None:
    """Connected, but no greeting in time."""
    with server(says(b"")) as port:
        assert read_banner(port, 0.1).outcome is BannerOutcome.MUTE


def test_a_closed_port_refuses() -> None:
    """A closed port's reset is no silence."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert read_banner(port).outcome is BannerOutcome.REFUSED


def test_large_packets_and_a_disconnect_message_are_sent() -> None:
    """The server gets our identification, a large packet to be ignored, and a disconnect message with a reason."""
    got = bytearray()

    def serve(connection: socket.socket) -> None:
        connection.sendall(b"SSH-2.0-test\r\n")
        while data := connection.recv(65536):
            got.extend(data)

    with server(serve) as port:
        assert read_banner(port).unsent == 0
    line, _, rest = bytes(got).partition(b"\r\n")
    assert line == b"SSH-2.0-relayctl"
    kinds = []
    while rest:
        length, padding = struct.unpack_from("!IB", rest)
        assert (4 + length) % 8 == 0
        assert 4 <= padding < 256
        kinds.append((rest[5], length))
        last, rest = rest[5 : 4 + length - padding], rest[4 + length :]
    assert [kind for kind, _ in kinds] == [2, 1]
    assert kinds[0][1] > 8000
    assert b"relayctl net verify" in last


def test_a_server_that_stops_reading_has_not_got_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was never acknowledged is counted: so a hole that eats large packets is seen."""
    monkeypatch.setattr(ssh_banner, "_LARGE_SECONDS", 0.3)  # s; nothing is lost on lo, so nothing has to be sent again
    done = threading.Event()

    def serve(connection: socket.socket) -> None:
        connection.sendall(b"SSH-2.0-test\r\n")
        done.wait(10)

    with server(serve, 2048) as port:
        found = read_banner(port)
        done.set()
    assert found.outcome is BannerOutcome.GREETED
    assert found.unsent > 0


@pytest.mark.system
def test_a_real_sshd_notes_who_asked(tmp_path: Path) -> None:
    """OpenSSH greets, takes the large packet, and logs our word of leave instead of an error."""
    key, log = tmp_path / "key", tmp_path / "log"
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd's empty directory; Debian makes it at boot
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    with socket.create_server(("127.0.0.1", 0)) as listener, log.open("wb") as stderr:

        def accept() -> None:
            connection, _ = listener.accept()
            with connection:
                subprocess.run(
                    ["/usr/sbin/sshd", "-i", "-e", "-f", "/dev/null", "-h", key, "-o", "UsePAM=no"],
                    stdin=connection,
                    stdout=connection,
                    stderr=stderr,
                    timeout=30,
                )

        thread = threading.Thread(target=accept)
        thread.start()
        found = read_banner(listener.getsockname()[1])
        thread.join()
    assert found.outcome is BannerOutcome.GREETED
    assert found.text.startswith("SSH-2.0-OpenSSH")
    assert found.unsent == 0
    assert "relayctl net verify [preauth]" in log.read_text()


@pytest.mark.system
def test_silence_and_an_unreachable_host_are_told_apart(relay_host: Namespace) -> None:
    """Bound to an interface without an answer it is silence; where a route forbids it, the kernel's own words."""
    relay_host.ip("route add prohibit 10.8.0.0/24")
    script = (
        "from ipaddress import ip_address as a\nfrom relay.net.probe import ssh_banner\n"
        "for to, by in (('192.168.1.201', 'zt0'), ('10.8.0.1', '')):\n"
        "    found = ssh_banner.read_banner(a(to), 22, interface=by, timeout=0.2)\n"
        "    print(found.outcome, found.text)\n"
    )
    assert relay_host.run(sys.executable, "-c", script).splitlines() == ["silent ", "unreachable permission denied"]


@given(st.binary(max_size=300))
def test_any_line_is_an_identification_or_none(line: bytes) -> None:
    """What a server says first is hostile: bounded, and nothing in it moves a cursor."""
    found = ssh_banner.identification(line)
    assert found is None or (found.isprintable() and len(found) <= 255 * 4)


@given(st.binary(max_size=300))
def test_a_packet_has_the_shape_of_rfc_4253(payload: bytes) -> None:
    """A length that fits, at least four bytes of padding, and a multiple of eight in all."""
    packet = ssh_banner.packet(payload)
    length, padding = struct.unpack_from("!IB", packet)
    assert len(packet) == 4 + length
    assert len(packet) % 8 == 0
    assert 4 <= padding <= 255
    assert packet[5 : len(packet) - padding] == payload

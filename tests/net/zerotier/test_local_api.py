"""Client of ZeroTier's local API: bounded reads, and the token goes to the right socket only."""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from relay.net.zerotier import local_api, node_view
from relay.net.zerotier.node_view import ApiStatus
from tests.net.recorded import answers


@contextmanager
def service(home: Path, answer: Callable[[str], bytes], token: str = "secret-token") -> Iterator[list[str]]:
    """An API on a port of its own whose files lie in `home`; gives the heads of the requests that came."""
    asked: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        home.mkdir(exist_ok=True)
        (home / "authtoken.secret").write_text(token)
        (home / "zerotier-one.port").write_text(str(listener.getsockname()[1]))

        def serve() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                with sock:
                    head = sock.recv(4096).decode()
                    if not head:
                        return
                    asked.append(head)
                    try:
                        sock.sendall(answer(head))
                    except OSError:
                        continue

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield asked
        finally:
            socket.create_connection(listener.getsockname()).close()
            thread.join(10)


def http(status: int, body: object) -> bytes:
    data = json.dumps(body).encode()
    return f"HTTP/1.1 {status} x\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


def test_the_api_is_asked_with_the_token(tmp_path: Path) -> None:
    """Port and token are found in the service's directory; four questions give the view."""
    healthy = answers("healthy.relay")
    with service(tmp_path, lambda head: http(*healthy[head.split()[1]])) as asked:
        view = local_api.read_node(tmp_path)
    assert view == node_view.parse_answers(healthy)
    assert len(asked) == 4
    assert all("X-ZT1-Auth: secret-token" in head for head in asked)


def test_a_refused_token_is_told_from_a_service_that_is_none(tmp_path: Path) -> None:
    """401 is the token's fault; HTML, no HTTP at all and an endless answer are not ZeroTier."""
    with service(tmp_path, lambda _: http(401, {})):
        assert local_api.read_node(tmp_path).status is ApiStatus.TOKEN_REFUSED
    for answer in (
        b"HTTP/1.1 200 OK\r\n\r\n<html>",
        b"SSH-2.0-x\r\n",
        b"",
        http(200, {}),
        http(404, {}),
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + bytes(5 << 20),
        b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 100_000,
    ):
        with service(tmp_path, lambda _, answer=answer: answer):
            assert local_api.read_node(tmp_path).status is ApiStatus.GARBLED, answer[:40]


def test_a_dripping_answer_ends_at_the_deadline(tmp_path: Path) -> None:
    """A peer that sends single bytes cannot extend the deadline."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        (tmp_path / "authtoken.secret").write_text("t")
        (tmp_path / "zerotier-one.port").write_text(str(listener.getsockname()[1]))
        done = threading.Event()

        def drip() -> None:
            sock, _ = listener.accept()
            with sock:
                while not done.wait(0.02):
                    sock.send(b"H")

        thread = threading.Thread(target=drip)
        thread.start()
        start = time.monotonic()
        view = local_api.read_node(tmp_path, timeout=0.3)
        took = time.monotonic() - start
        done.set()
        thread.join(10)
    assert view.status is ApiStatus.SILENT
    assert took < 2


def test_a_stopped_or_missing_service(tmp_path: Path) -> None:
    """No files: not installed. Files and no listener: not running."""
    assert local_api.read_node(tmp_path).status is ApiStatus.NOT_INSTALLED
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    (tmp_path / "authtoken.secret").write_text("t")
    (tmp_path / "zerotier-one.port").write_text(str(port))
    assert local_api.read_node(tmp_path).status is ApiStatus.NOT_RUNNING


def test_without_a_token_it_still_says_whether_it_is_online(tmp_path: Path) -> None:
    """/health needs no token; what was left out is said."""
    health = {"online": False, "version": "1.14.1"}
    with service(tmp_path, lambda _: http(200, health)) as asked:
        (tmp_path / "authtoken.secret").unlink()
        (tmp_path / "authtoken.secret").mkdir()  # what not even root can read
        view = local_api.read_node(tmp_path)
    assert (view.status, view.online, view.version) == (ApiStatus.TOKEN_UNREADABLE, False, "1.14.1")
    assert "authtoken.secret" in view.detail
    assert [head.split()[1] for head in asked] == ["/health"]
    assert "X-ZT1-Auth" not in asked[0]


LISTEN = """
import os, socket, sys
if os.geteuid() == 0:
    os.setuid(65534)
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
sys.stdin.read()
listener.settimeout(0.2)
try:
    listener.accept()
except TimeoutError:
    print("nobody came")
"""


def test_the_token_is_not_sent_to_another_users_socket(tmp_path: Path) -> None:
    """Any user may listen on the port while ZeroTier is stopped; nothing is even connected to."""
    with subprocess.Popen(
        [sys.executable, "-c", LISTEN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        (tmp_path / "authtoken.secret").symlink_to("/etc/passwd")  # a file of root's
        (tmp_path / "zerotier-one.port").write_text(other.stdout.readline())
        view = local_api.read_node(tmp_path)
        said, _ = other.communicate(timeout=10)
    assert view.status is ApiStatus.GARBLED
    assert "neither root's" in view.detail
    assert said == "nobody came\n"

"""ZeroTier's local API is read within bounds, and its token goes to nobody else."""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.net.zerotier import local_api, node_view
from relay.net.zerotier.node_view import ApiStatus, ManagedRoute
from tests.net.recorded import PATHS, STATES, answers


def test_a_healthy_relay() -> None:
    """Node, network, addresses, routes as sent, and the gateway's peer with its path."""
    view = node_view.parse_answers(answers("healthy.relay"))
    assert (view.status, view.node, view.version, view.online) == (ApiStatus.ANSWERS, "cf33a232e1", "1.14.1", True)
    (network,) = view.networks
    assert (network.id, network.status, network.interface) == ("cf33a232e100ab01", "OK", "zt0")
    assert network.assigned == (ip_interface("172.18.0.10/24"),)
    assert network.routes == (
        ManagedRoute(ip_network("172.18.0.0/24"), None),
        ManagedRoute(ip_network("192.168.1.0/24"), ip_address("172.18.0.200")),
    )
    (peer,) = view.peers
    assert peer.path is not None
    assert (peer.node, peer.role, peer.latency, peer.path.endpoint) == (
        "e7c029fccf", "LEAF", 0.008, "198.51.100.20/9993",
    )  # fmt: skip
    assert peer.heard == pytest.approx(0.205)


def test_a_peer_without_a_path_is_relayed_and_never_heard() -> None:
    """180 s after the gateway died its paths are gone; its latency is not known."""
    peer = node_view.parse_answers(answers("gateway-dead-180s.relay")).peer("e7c029fccf")
    assert peer is not None
    assert (peer.path, peer.heard, peer.latency) == (None, None, None)


def test_a_moon_is_known_by_its_roots() -> None:
    """The moon's id is its root's node with six zeros before it."""
    view = node_view.parse_answers(answers("moon.gateway"))
    assert [(moon.id, moon.roots, moon.waiting) for moon in view.moons] == [
        ("000000cf33a232e1", ("cf33a232e1",), False)
    ]
    assert [peer.node for peer in view.peers if peer.role == "MOON"] == ["cf33a232e1"]


@pytest.mark.parametrize("state", STATES)
def test_every_recorded_state_is_read(state: str) -> None:
    """A stopped service is not running, every other state answers with at least one network."""
    view = node_view.parse_answers(answers(state))
    if state.endswith(".relay") and state.startswith("zerotier-stopped"):
        assert view.status is ApiStatus.NOT_RUNNING
    else:
        assert view.answers
        assert view.network("cf33a232e100ab01") is not None


@pytest.mark.parametrize(
    ("mac", "node"),
    [
        ("02:64:33:43:00:43", "cf33a232e1"),
        ("02:4c:c0:c8:ce:6d", "e7c029fccf"),
        ("06:4c:c0:c8:ce:6d", ""),  # not of this network
        ("da:1e:d0:14:e2:cb", ""),
        ("", ""),
        ("02:4c", ""),
    ],
)
def test_a_mac_tells_the_member(mac: str, node: str) -> None:
    """The MACs of the recorded relay and gateway are those of their nodes; another MAC is nobody's."""
    assert node_view.member(mac, "cf33a232e100ab01") == node


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=5),
    max_leaves=20,
)
KEYS = ("address", "clock", "online", "version", "nwid", "status", "portDeviceName", "assignedAddresses", "routes",
        "target", "via", "paths", "lastReceive", "active", "roots", "identity", "id", "latency", "name")  # fmt: skip
WORDS = ("cf33a232e1", "cf33a232e100ab01", "ACCESS_DENIED", "zt0", "10.0.0.0/8", "02:64:33:43:00:43", "10.0.0.1/9993")
WORD = st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.sampled_from(WORDS)
PART = st.lists(st.dictionaries(st.sampled_from(KEYS), WORD, max_size=5), max_size=2)
GOOD = {"address": "cf33a232e1", "nwid": "cf33a232e100ab01", "id": "000000cf33a232e1"}  # else nothing else is looked at
LIKE = st.dictionaries(st.sampled_from(KEYS), WORD | PART | ANY_JSON).map(lambda said: GOOD | said)
LISTED = st.lists(LIKE, max_size=3) | ANY_JSON
STATUSES = st.just([200] * 4) | st.lists(st.sampled_from([200, 401, 500, 0]), min_size=4, max_size=4)


@given(STATUSES, st.tuples(LIKE | ANY_JSON, LISTED, LISTED, LISTED))
def test_any_json_is_a_view(statuses: list[int], said: tuple[object, ...]) -> None:
    """Nothing an API answers can raise, and every id and address has the form that a command may hold."""
    view = node_view.parse_answers(dict(zip(PATHS, zip(statuses, said, strict=True), strict=True)))
    assert view.node.isalnum() or not view.answers
    assert all(network.id.isalnum() and len(network.id) == 16 for network in view.networks)


@pytest.mark.parametrize("text", ["fe80::1%;reboot", "172.18.0.10/24;reboot", "$(reboot)", 7, None, {}])
def test_an_address_holds_nothing_but_an_address(text: object) -> None:
    """An IPv6 scope may be any text for Python; here it is left out with its address."""
    network = {"nwid": "cf33a232e100ab01", "assignedAddresses": [text], "routes": [{"target": text, "via": text}]}
    view = node_view.parse_answers({**answers("healthy.relay"), "/network": (200, [network])})
    assert view.networks[0].assigned == ()
    assert view.networks[0].routes == ()


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
    """Whoever sends a byte now and then holds nobody longer than the time that was given."""
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


def test_nobody_there(tmp_path: Path) -> None:
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

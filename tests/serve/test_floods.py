"""Memory stays flat: whatever a client or a target sends, and whatever either of them does not read."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.relay_process import Relay, relay, wait_for
from tests.serve import hostile
from tests.serve.hostile import Client, Gone, load_key, rss, string, uint32

pytestmark = pytest.mark.xdist_group("serve-floods")

MIB = 1 << 20


def logged_in(one: Relay) -> Client:
    """Alice's connection."""
    return Client(one.port).login("alice", load_key(one.key))


@contextmanager
def flooding_target() -> Iterator[tuple[int, list[int]]]:
    """A target that sends without end to whoever connects; its port, and how much each connection took."""
    taken: list[int] = []
    over = threading.Event()
    listener = socket.create_server(("127.0.0.2", 0), backlog=64)
    listener.settimeout(0.1)

    def flood(sock: socket.socket, index: int) -> None:
        sock.settimeout(0.1)
        with sock:
            while not over.is_set():
                try:
                    taken[index] += sock.send(bytes(1 << 17))
                except TimeoutError:
                    continue
                except OSError:
                    return

    def accept() -> None:
        while not over.is_set():
            try:
                sock, _ = listener.accept()
            except TimeoutError:
                continue
            taken.append(0)
            threading.Thread(target=flood, args=(sock, len(taken) - 1), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1], taken
    finally:
        over.set()
        thread.join()
        listener.close()


def stalled(taken: list[int]) -> None:
    """Wait until the target can send no more: nobody reads it."""
    last = [-1]

    def look() -> bool:
        still = taken == last[:] and bool(taken) and all(taken)
        last[:] = taken
        if not still:
            threading.Event().wait(0.15)
        return still

    wait_for(look, "the target is read on and on")


@pytest.mark.parametrize(
    "payload",
    [
        bytes([hostile.IGNORE]) + string(bytes(100)),
        bytes([hostile.DEBUG]) + b"\0" + string(b"x") + string(b""),
        bytes([hostile.UNIMPLEMENTED]) + uint32(1),
        bytes([199]),
        bytes([hostile.GLOBAL_REQUEST]) + string("keepalive@openssh.com") + b"\0",
        bytes([hostile.GLOBAL_REQUEST]) + string("flood") + b"\0",
        bytes([hostile.REQUEST_SUCCESS]),
    ],
    ids=["ignore", "debug", "unimplemented", "unknown", "keepalive", "global", "answers"],
)
def test_floods_after_log_in_keep_nothing(one: Relay, echo: int, payload: bytes) -> None:
    """10,000 idle messages cost no memory, and the connection either lives on or is cut with a reason."""
    with logged_in(one) as client:
        before = rss(one)
        try:
            client.flood(payload, 10_000)
            client.echo("remote", echo)
        except Gone as end:
            assert str(end) == "protocol error"
        assert rss(one) - before < 4 * MIB


@pytest.mark.slow
def test_answers_that_nobody_reads_are_not_gathered(one: Relay, echo: int) -> None:
    """A client that asks and asks and never reads is no longer read itself: its TCP connection fills up."""
    with Client(one.port, receive_buffer=1 << 14).login("alice", load_key(one.key)) as client:
        before = rss(one)
        client.sock.settimeout(1)
        with pytest.raises(TimeoutError):
            client.flood(bytes([hostile.GLOBAL_REQUEST]) + string("keepalive@openssh.com") + b"\1", 1_000_000)
        assert rss(one) - before < 8 * MIB
        with logged_in(one) as other:
            other.echo("remote", echo)


def test_a_client_that_does_not_read_stops_its_target(one: Relay, echo: int) -> None:
    """A window of 4 GiB is no reason to buffer: when TCP to the client is full, the target is not read."""
    with flooding_target() as (port, taken), logged_in(one) as client:
        before = rss(one)
        client.open("remote", port, window=0xFFFFFFFF)
        stalled(taken)
        assert rss(one) - before < 8 * MIB
        with logged_in(one) as other:
            other.echo("remote", echo)
        # and when the client reads again, all of what was sent until now comes, and more
        found, sent = 0, sum(taken)
        while found <= sent:
            found += len(hostile.strings(client.expect(hostile.DATA)[5:])[0])


def test_sixty_targets_of_a_client_that_does_not_read_are_all_stopped(one: Relay) -> None:
    """The bound is for the connection, not for each of its forwards."""
    with flooding_target() as (port, taken), logged_in(one) as client:
        before = rss(one)
        packets = [client.ask("remote", port, window=0xFFFFFFFF)[1] for _ in range(60)]
        client.send(*packets)
        wait_for(lambda: len(taken) == 60, "not all were opened")
        stalled(taken)
        assert rss(one) - before < 24 * MIB


def test_a_target_that_never_reads_stops_the_client(one: Relay, echo: int) -> None:
    """The client's window is not refilled while the target takes nothing: one window in memory at most."""
    with socket.create_server(("127.0.0.2", 0), backlog=1) as deaf, logged_in(one) as client:
        before = rss(one)
        _, channel = client.open("remote", deaf.getsockname()[1])
        accepted, _ = deaf.accept()
        client.write(channel, bytes((1 << 21) - 100))
        client.echo("remote", echo)
        assert rss(one) - before < 8 * MIB
        client.sock.settimeout(0.3)
        granted = 0
        with pytest.raises(TimeoutError):
            while True:
                granted += int.from_bytes(client.expect(hostile.WINDOW_ADJUST)[5:9], "big")
        # what the kernels of relay and target hold may be granted again, and no more
        assert granted < 12 * MIB
        accepted.close()


def test_a_half_finished_rekey_stops_every_target(one: Relay, echo: int) -> None:
    """A client that begins a key exchange and leaves it: targets are not read, nothing is kept back without bound."""
    with flooding_target() as (port, taken), logged_in(one) as client:
        for _ in range(8):
            client.open("remote", port, window=0xFFFFFFFF)
        before = rss(one)
        client.send(client.kexinit())
        while client.receive()[0] != hostile.KEXINIT:
            pass
        stalled(taken)
        assert rss(one) - before < 8 * MIB
        with logged_in(one) as other:
            other.echo("remote", echo)


def test_packets_kept_back_in_a_half_finished_rekey_are_bounded(one: Relay) -> None:
    """Provoking answers during a key exchange of one's own ends the connection, not the memory."""
    with logged_in(one) as client:
        before = rss(one)
        client.send(client.kexinit())
        with pytest.raises(Gone):
            client.flood(bytes([hostile.GLOBAL_REQUEST]) + string("keepalive@openssh.com") + b"\1", 100_000)
            client.gone()
            raise Gone("")
        assert rss(one) - before < 4 * MIB


@pytest.mark.slow
@pytest.mark.xdist_group("floods-rekey")  # half a minute of waiting is for a worker of its own
def test_a_rekey_that_is_never_finished_ends_the_connection(one: Relay) -> None:
    """After thirty seconds a half-finished key exchange is given up, and its forwards get their closing rows."""
    with flooding_target() as (port, _), logged_in(one) as client:
        client.open("remote", port)
        client.send(client.kexinit())
        client.sock.settimeout(45)
        client.gone()
        one.wait_row("forward.closed", port=port)


def test_a_rekey_in_the_middle_loses_no_byte(one: Relay, echo: int) -> None:
    """Key exchanges of the client's own, one after another, with data on both sides of them."""
    with logged_in(one) as client:
        number, channel = client.open("remote", echo)
        for turn in range(10):
            client.write(channel, b"%d" % turn * 1000)
            assert client.read(number, 1000) == b"%d" % turn * 1000
            client.exchange()
        client.echo("remote", echo)


def test_opens_by_the_ten_thousand_are_refused_and_keep_nothing(one: Relay, echo: int) -> None:
    """10,000 opens of refused targets in one connection: all are answered, memory is flat, two rows tell of them."""
    with logged_in(one) as client:
        before = rss(one)
        denied = len(one.rows("forward.denied"))
        for _ in range(10):
            client.send(*(client.ask("nowhere", 22)[1] for _ in range(1000)))
            for _ in range(1000):
                client.expect(hostile.OPEN_FAILURE)
        assert rss(one) - before < 8 * MIB
        client.echo("remote", echo)
    assert len(one.rows("forward.denied")) - denied <= 2  # the first at once, the rest with their count at the end


def test_denied_targets_by_the_thousand_do_not_flood_the_log(one: Relay, echo: int) -> None:
    """A person who scans leaves a row for each target, and neither memory nor other forwards suffer."""
    with logged_in(one) as client, logged_in(one) as other:
        before = rss(one)
        for start in range(0, 3000, 250):
            client.send(
                *(client.ask(f"10.0.{start >> 8}.{number & 255}", 22)[1] for number in range(start, start + 250))
            )
            for _ in range(250):
                client.expect(hostile.OPEN_FAILURE)
            other.echo("remote", echo)
        assert rss(one) - before < 16 * MIB


def disk(one: Relay) -> int:
    """Bytes that the relay's state takes on the disk, and its log."""
    files = [path for path in (one.site / "state").rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files) + len(one.log())


def junk(one: Relay, connections: int, echo: int) -> None:
    """Make that many connections without a key; forwards must go on meanwhile, and the disk must stay as it is."""
    import time

    with logged_in(one) as client:
        client.echo("remote", echo)
        before = disk(one)
        slowest = 0.0
        for number in range(connections):
            with socket.create_connection(("127.0.0.1", one.port), timeout=10) as sock:
                sock.sendall(b"GET / HTTP/1.0\r\n\r\n" if number % 3 else b"SSH-2.0-x\r\n" + bytes(40))
            if number % 500 == 0:
                began = time.monotonic()
                client.echo("remote", echo)
                slowest = max(slowest, time.monotonic() - began)
        assert slowest < 2.0, "strangers delay forwards"
        assert disk(one) - before < MIB


def test_junk_connections_leave_no_rows(one: Relay, echo: int) -> None:
    """2,000 connections that never log in add less than a megabyte, delay no forward, and leave no row each."""
    junk(one, 2000, echo)
    allowed = {
        "forward.",
        "login.su",
        "connecti",
        "request.",
        "site.app",
        "server.s",
        "scan.see",
        "audit.se",  # a minute of it is sealed
        "audit.ke",
    }  # of the persons of this file
    assert {row["name"][:8] for row in one.rows()} <= allowed
    assert len(one.rows("connection.closed")) <= len(one.rows("login.succeeded"))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.xdist_group("floods-junk")
def test_a_hundred_thousand_junk_connections_add_less_than_a_megabyte(tmp_path: Path, echo: int) -> None:
    """10^5 connections without a key: under 1 MB on the disk, no forward is delayed, memory is flat."""
    with relay(tmp_path, settings="workers: 1\n") as own:
        before = rss(own)
        junk(own, 100_000, echo)
        assert rss(own) - before < 32 * MIB

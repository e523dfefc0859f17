"""The load of bench/load.py in small: what matters is that it holds, not how fast; the figures are the bench's."""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.relay_process import Relay, echo_server, relay, wait_for
from tests.serve import hostile
from tests.serve.hostile import Client, load_key, rss, string
from tests.serve.systemd import settled

pytestmark = pytest.mark.xdist_group("serve-load")

STRANGERS = 700  # silent ones: more than there is room for


@contextlib.contextmanager
def flooding(one: Relay, count: int) -> Iterator[None]:
    """Clients that send IGNORE packets instead of a key exchange, and come back whenever they are thrown out."""
    over = threading.Event()

    def flood(source: str) -> None:
        while not over.is_set():
            with (
                contextlib.suppress(OSError, hostile.Gone),
                Client(one.port, exchange=False, source=source, seconds=5) as client,
            ):
                client.hello()
                while not over.is_set():
                    client.send(*[bytes([hostile.IGNORE]) + string(bytes(1000))] * 64)
            over.wait(0.1)

    threads = [threading.Thread(target=flood, args=(f"127.30.0.{1 + number}",)) for number in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_known_keys_log_in_whatever_strangers_do(tmp_path: Path) -> None:
    """A full house of silent strangers and some who flood: nobody with a key is turned away, open forwards go on."""
    with (
        relay(tmp_path, settings="workers: 2\npenalties: {exempt: []}\n") as one,
        echo_server() as port,
        contextlib.ExitStack() as stack,
    ):
        key = load_key(one.key)
        old = stack.enter_context(Client(one.port)).login("alice", key)
        number, channel = old.open("remote", port)
        for stranger in range(STRANGERS):
            sock = stack.enter_context(socket.socket())
            sock.bind((f"127.20.{stranger % 20}.1", 0))
            sock.connect(("127.0.0.1", one.port))
        stack.enter_context(flooding(one, 4))
        for visit in range(20):
            source = f"127.200.0.{visit}" if visit % 2 else "127.0.0.1"
            with Client(one.port, source=source, seconds=60) as client:
                client.login("alice", key)
                client.echo("remote", port)
            old.write(channel, b"still here")
            assert old.read(number, 10) == b"still here"


def test_who_waits_for_a_relay_that_starts_is_served(tmp_path: Path) -> None:
    """100 clients at a door whose relay is only starting: all get in."""
    one = Relay(tmp_path, settings="workers: 2\n")
    key = load_key(one.key)
    try:
        with echo_server() as port, ThreadPoolExecutor(100) as pool:

            def visit(_: int) -> None:
                with Client(one.port, seconds=100) as client:
                    client.login("alice", key)
                    client.echo("remote", port)

            visits = [pool.submit(visit, number) for number in range(100)]
            one.start()
            for done in visits:
                done.result()
            assert settled(one) == 100
    finally:
        one.end()


def test_who_is_logged_in_and_idle_costs_little(tmp_path: Path) -> None:
    """300 idle log-ins take less than 32 kB each, and when they have gone the relay has no descriptor more."""
    with relay(tmp_path, settings="workers: 1\nlimits: {handshakes: 1000}\n") as one:
        key = load_key(one.key)

        def enter() -> list[Client]:
            return [Client(one.port).login("alice", key) for _ in range(300)]

        def leave(clients: list[Client]) -> None:
            for client in clients:
                client.sock.close()
            wait_for(lambda: hostile.descriptors(one) <= before, "descriptors are left")

        before = hostile.descriptors(one) + 2
        leave(enter())  # what is kept for good, it has now
        empty = rss(one)
        clients = enter()
        assert (rss(one) - empty) / 300 < 32_000
        assert len(os.listdir(f"/proc/{one.pid}/fd")) < 40
        leave(clients)
        assert one.stop(signal.SIGTERM) == 0

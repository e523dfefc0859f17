"""The acceptor: real connections passed to a worker unread, or queued until there is a slot."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest

from relay.core.settings import Limits, Settings
from relay.serve.supervisor.admission.acceptor import Acceptor
from tests.serve.kept import Kept
from tests.serve.supervisor.linked_worker import LinkedWorker


@asynccontextmanager
async def accepting(state: Path, limits: Limits) -> AsyncIterator[tuple[Acceptor, LinkedWorker, tuple[str, int]]]:
    """An acceptor at a loopback port, the worker that it passes connections to, and the address."""
    worker = LinkedWorker(state)
    acceptor = Acceptor(worker.pool, Kept(), lambda: Settings(limits=limits))
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    acceptor.sockets = [listener]
    acceptor.open()
    try:
        yield acceptor, worker, listener.getsockname()
    finally:
        acceptor.close()
        worker.close()
        for descriptor in worker.descriptors:
            socket.close(descriptor)


async def queue_length(acceptor: Acceptor, length: int) -> None:
    """Wait until that many sockets are queued."""
    async with asyncio.timeout(10):
        while acceptor.figures()["line"] != length:
            await asyncio.sleep(0.005)


async def test_a_connection_is_passed_on_with_nothing_read(tmp_path: Path) -> None:
    """The worker gets the descriptor, the client's address and port, and every byte that the client has sent."""
    async with accepting(tmp_path, Limits()) as (acceptor, worker, address):
        with socket.create_connection(address) as client:
            client.sendall(b"SSH-2.0-test\r\n")
            (message,) = await worker.wait_for("conn")
            assert (message["source"], message["port"]) == client.getsockname()
            with socket.socket(fileno=worker.descriptors.pop()) as passed:
                passed.settimeout(10)
                assert passed.recv(100) == b"SSH-2.0-test\r\n"
        assert acceptor.waiting == 1
        assert worker.handle.connections == {message["c"]}


async def test_a_connection_waits_until_its_source_has_a_slot(tmp_path: Path) -> None:
    """With one slot per source the second connection is passed on when the first one has authenticated."""
    async with accepting(tmp_path, Limits(unauthenticated_per_source=1)) as (acceptor, worker, address):
        with socket.create_connection(address), socket.create_connection(address) as second:
            (first_message,) = await worker.wait_for("conn")
            async with asyncio.timeout(10):
                while acceptor.figures()["line"] != 1:
                    await asyncio.sleep(0.005)
            acceptor.proven(first_message["c"])
            messages = await worker.wait_for("conn", 2)
            assert messages[1]["port"] == second.getsockname()[1]
            assert acceptor.figures()["line"] == 0


async def test_queued_connections_go_to_the_worker_when_the_supervisor_stops(tmp_path: Path) -> None:
    """A stop passes on what is queued, so that a restart loses no client."""
    async with accepting(tmp_path, Limits(unauthenticated_per_source=1)) as (acceptor, worker, address):
        with socket.create_connection(address), socket.create_connection(address):
            async with asyncio.timeout(10):
                while acceptor.figures()["line"] != 1:
                    await asyncio.sleep(0.005)
            acceptor.stop()
            await worker.wait_for("conn", 2)
            assert acceptor.figures()["line"] == 0


async def test_a_queued_client_that_leaves_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket whose client has closed it leaves the queue, and the worker never gets it."""
    monkeypatch.setattr("relay.serve.supervisor.admission.acceptor.QUEUE_SECONDS", 0.02)
    async with accepting(tmp_path, Limits(unauthenticated_per_source=1)) as (acceptor, worker, address):
        watching = asyncio.create_task(acceptor.watch_queue())
        with socket.create_connection(address):
            with socket.create_connection(address):
                await queue_length(acceptor, 1)
            await queue_length(acceptor, 0)
            assert len(await worker.wait_for("conn")) == 1
        watching.cancel()


async def test_a_full_queue_refuses_its_oldest_client_with_the_reason(tmp_path: Path) -> None:
    """The client that has waited longest reads the reason before its connection is closed."""
    limits = Limits(unauthenticated=2, unauthenticated_per_source=1)
    async with accepting(tmp_path, limits) as (acceptor, _, address):
        with ExitStack() as stack:
            stack.enter_context(socket.create_connection(address))
            oldest = stack.enter_context(socket.create_connection(address))
            await queue_length(acceptor, 1)
            for _ in range(2):
                stack.enter_context(socket.create_connection(address))
            async with asyncio.timeout(10):
                while not acceptor.turned_away:
                    await asyncio.sleep(0.005)
            oldest.settimeout(10)
            assert b"relay: too many connections from your address are waiting, please try again (id " in oldest.recv(
                1000
            )

"""The acceptor: real connections passed to a worker unread, or queued until there is a slot."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

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

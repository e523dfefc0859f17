"""The worker process: its answers to the supervisor's messages, and how it drains and ends."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from relay.net.kernel import netlink
from relay.serve.worker.process import Worker
from relay.store import host_keys
from tests.serve.worker import parts


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[tuple[Worker, parts.Supervisor, "asyncio.Task[None]"]]:
    """A worker that runs in this process, and its supervisor, which has welcomed it."""
    (directory / "run").mkdir()
    host_keys.ensure(directory)
    ours, theirs = socket.socketpair()
    worker = Worker(directory, "w1", ours)
    task = asyncio.create_task(worker.run())
    supervisor = parts.Supervisor(theirs)
    try:
        await parts.until(lambda: supervisor.of("joined"))
        supervisor.link.send({"t": "welcome", "v": 1, "slot": 3, "node": "n", "ours": True, "site": str(directory)})
        yield worker, supervisor, task
    finally:
        for number in (2, 15):
            asyncio.get_running_loop().remove_signal_handler(number)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        supervisor.link.close()
        netlink.close_thread_socket()
        await asyncio.sleep(0)


async def test_the_first_message_is_hello_and_the_slot_is_kept_in_the_lock(tmp_path: Path) -> None:
    """A supervisor that starts before the worker joins it finds the slot in the file, and does not give it away."""
    async with running(tmp_path) as (_, supervisor, _task):
        hello = supervisor.messages[0]
        assert (hello["t"], hello["pid"], hello["name"], hello["slot"]) == ("hello", os.getpid(), "w1", None)
        await parts.until(lambda: (tmp_path / "run" / "w1.lock").read_text() == "slot 3\n")


async def test_an_unknown_message_and_a_broken_one_change_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A newer supervisor may send more than this worker knows; the next ping is answered."""
    async with running(tmp_path) as (_, supervisor, _task):
        supervisor.link.send({"t": "of-the-future", "x": 1})
        supervisor.link.send({"t": "share"})  # without its field
        supervisor.link.send({"t": "ping", "n": 9})
        await parts.until(lambda: supervisor.of("pong"))
        assert supervisor.of("pong") == [{"t": "pong", "n": 9}]
        assert capsys.readouterr().err.count("a bug of ours") == 1


async def test_a_draining_worker_without_connections_ends_and_leaves_nothing(tmp_path: Path) -> None:
    """Its lock goes with it, and there is no spool, as all rows were acknowledged."""
    async with running(tmp_path) as (_, supervisor, task):
        supervisor.link.send({"t": "drain", "seconds": 60})
        async with asyncio.timeout(10):
            await task
        assert list((tmp_path / "run").iterdir()) == []


async def test_rows_that_were_never_acknowledged_are_spooled(tmp_path: Path) -> None:
    """A worker that ends while its supervisor does not answer leaves its rows to the next one."""
    async with running(tmp_path) as (worker, supervisor, task):
        worker.audit.note("forward.closed", {"forward": "f1"}, "row-1")
        await parts.until(lambda: supervisor.of("note"))
        worker._over.set()
        async with asyncio.timeout(10):
            await task
        assert '"row-1"' in (tmp_path / "run" / "w1.rows").read_text()


async def test_a_lost_link_drains_and_a_welcome_of_the_same_supervisor_ends_that(tmp_path: Path) -> None:
    """Without a supervisor the worker serves what it has; it joins whichever listens, with what it holds."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    async with running(tmp_path) as (worker, supervisor, task):
        client, theirs = socket.socketpair()
        supervisor.link.send({"t": "conn", "c": "c1", "source": "203.0.113.7", "port": 1, "fd": True}, client.fileno())
        await parts.until(lambda: worker.connections.by_id)
        with listener, client, theirs:
            listener.bind(str(tmp_path / "run" / "workers.sock"))
            listener.listen()
            listener.setblocking(False)
            supervisor.link.close()
            async with asyncio.timeout(10):
                again, _ = await asyncio.get_running_loop().sock_accept(listener)
            other = parts.Supervisor(again)
            await parts.until(lambda: other.of("joined"))
            assert [message["t"] for message in other.messages] == ["hello", "have", "joined"]
            assert (other.messages[0]["slot"], other.messages[1]["c"]) == (3, "c1")
            assert worker._draining
            other.link.send({"t": "welcome", "v": 1, "slot": 3, "node": "n", "ours": True, "site": None})
            await parts.until(lambda: not worker._draining)
            assert not task.done()
            other.link.close()

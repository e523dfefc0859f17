"""Workers and supervisors that end at awkward moments, and what is there afterwards."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from relay.core.audit.event import Event
from relay.net.kernel import netlink
from relay.serve.ipc import IpcLink
from relay.serve.worker.process import Worker
from relay.store import host_keys
from relay.store.writer import FILE, AuditWriter
from tests.relay_process import Relay, relay, wait_for
from tests.serve import hostile

_NO_WORKERS = """
import sys
sys.executable = "/bin/false"
from relay.serve.supervisor import process
process.main()
"""


def test_a_worker_that_somebody_ended_is_replaced(tmp_path: Path) -> None:
    """SIGTERM to the only worker: it ends with status 0, and another takes its place."""
    with relay(tmp_path, settings="workers: 1\n") as one:
        (pid,) = one.worker_pids()
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda: (found := one.worker_pids()) and found != [pid], "no other worker came")
        done = one.ssh("relay")
        assert b"you are logged in as alice" in done.stderr, done.stderr


def test_a_stop_while_workers_start_leaves_none_behind(tmp_path: Path) -> None:
    """Told to stop when the first of four workers serves: it ends at once, and no other one lives on."""
    with relay(tmp_path, settings="workers: 4\n") as one:
        assert one.stop(signal.SIGINT, 10) == 0
        wait_for(lambda: not one.worker_pids(), "a worker lives on")


def test_it_can_be_stopped_before_any_worker_serves(tmp_path: Path) -> None:
    """Workers that all die at start: SIGTERM still ends the supervisor."""
    one = Relay(tmp_path, settings="workers: 1\n")
    one.start()
    one.stop()
    one.listener.close()
    command = [sys.executable, "-P", "-c", _NO_WORKERS, str(one.site)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert b"ended with status" in process.stderr.readline()
        process.terminate()
        assert process.wait(10) == 0


def test_a_worker_without_a_supervisor_does_not_wait_for_ever(tmp_path: Path) -> None:
    """Its supervisor has gone before it could say hello: it ends by itself."""
    (tmp_path / "run").mkdir()
    command = [sys.executable, "-P", "-m", "relay.serve.worker", str(tmp_path), "w1-1"]
    assert subprocess.run(command, timeout=20).returncode == 0


def test_openings_of_an_earlier_life_with_the_same_process_id_are_closed(tmp_path: Path) -> None:
    """In a container the supervisor's process id never changes: an old row is not taken for one of a new worker."""
    one = Relay(tmp_path, settings="workers: 1\n")
    state = one.site / "state"
    state.mkdir(mode=0o700)
    fields = {"forward": "0k3v9x2m4qz", "zone": "here", "address": "127.0.0.2", "port": 22}
    try:
        one.start()
        (worker,) = [path.stem for path in (state / "run").glob("w*.lock")]
        one.stop()
        writer = AuditWriter(state / FILE, "relay")
        number = int(time.time() * 1e6)
        writer.append([Event("0k3v9x2m4qz", number, "forward.opened", {**fields, "worker": worker})])
        writer.close()
        one.start()
        assert worker not in {path.stem for path in (state / "run").glob("w*.lock")}
        one.wait_row("forward.closed", forward="0k3v9x2m4qz", reason="worker-lost")
    finally:
        one.end()


async def test_a_descriptor_that_could_not_be_taken_costs_its_client_only(tmp_path: Path) -> None:
    """A process without a free descriptor gets the frame without it, and the link lives on."""
    import asyncio
    import resource

    ours, theirs = socket.socketpair()
    found: asyncio.Queue[tuple[object, int | None]] = asyncio.Queue()
    sender = IpcLink(ours, lambda *_: None, lambda _: None)
    receiver = IpcLink(
        theirs, lambda _, message, descriptor: found.put_nowait((message["c"], descriptor)), lambda _: None
    )
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    sender.send({"t": "conn", "c": 1, "fd": True}, ours.fileno())
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))  # what is open stays open; nothing new is
        assert await found.get() == (1, None)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    sender.send({"t": "conn", "c": 2, "fd": True}, ours.fileno())
    number, descriptor = await found.get()
    assert number == 2
    assert descriptor is not None
    os.close(descriptor)
    sender.close()
    receiver.close()
    await asyncio.sleep(0)


async def test_what_was_kept_for_a_supervisor_may_be_more_than_a_link_holds() -> None:
    """Rows kept while no supervisor answered are resent whole, and many reloads in a row do not end the link."""
    import asyncio

    from relay.serve import ipc

    ours, theirs = socket.socketpair()
    sender = IpcLink(ours, lambda *_: None, lambda _: None)
    frame = ipc.encode({"t": "note", "e": "x" * 500_000})
    for _ in range(3):
        sender.send_bulk([frame] * 30)
    sender.send_bulk([frame])
    sender.send({"t": "joined"})
    assert sender.open
    seen = 0
    last = asyncio.Event()

    def received(_: IpcLink, message: dict[str, object], __: int | None) -> None:
        nonlocal seen
        seen += 1
        if message["t"] == "joined":
            last.set()

    receiver = IpcLink(theirs, received, lambda _: None)
    await asyncio.wait_for(last.wait(), 20)
    assert seen == 92
    sender.close()
    receiver.close()
    await asyncio.sleep(0)


@pytest.mark.system
def test_root_does_not_serve_on_the_state_of_another_user(tmp_path: Path) -> None:
    """What root's relay made there (applied, run) would keep the service's user from starting ever after."""
    one = Relay(tmp_path)
    state = one.site / "state"
    state.mkdir(mode=0o700)
    os.chown(state, 65534, 65534)
    said = one.ctl("serve", status=None)
    assert "belongs to user 65534, not to root" in said
    assert not list(state.iterdir())
    one.end()


def test_a_revoked_forward_keeps_nothing_for_later(tmp_path: Path) -> None:
    """The target has closed, its bytes wait for the client's window, the key goes: no byte comes any more."""
    said = b"x" * 1000
    with (
        relay(tmp_path) as one,
        socket.create_server(("127.0.0.2", 0)) as listener,
        hostile.Client(one.port).login("alice", hostile.load_key(one.key)) as client,
    ):
        number, channel = client.open("remote", listener.getsockname()[1], window=10, size=256)
        target, _ = listener.accept()
        target.sendall(said)
        assert client.read(number, 10) == said[:10]
        target.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        target.close()  # a reset: the relay closes the channel as soon as its window allows
        client.write(channel, b"y")
        (one.site / "keys" / "alice.pub").write_text("")
        with pytest.raises(hostile.Gone, match="no longer accepted"):
            client.read(number, 1)


@pytest.mark.parametrize("turns", range(4))
async def test_who_is_to_end_in_the_very_moment_it_comes_ends(tmp_path: Path, turns: int) -> None:
    """A place that is needed, a kill, a stop: also before the first byte, the connection is told and is gone."""
    import asyncio

    (tmp_path / "run").mkdir()
    host_keys.ensure(tmp_path)
    worker = Worker(tmp_path, "w1")
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    upwards, supervisor = socket.socketpair()
    link = IpcLink(upwards, lambda *_: None, lambda _: None)
    message = {"t": "conn", "c": "c1", "source": "203.0.113.7", "port": 4242, "fd": True}
    heard = b""
    try:
        worker._received(link, message, ours.detach())
        for _ in range(turns):
            await asyncio.sleep(0)
        worker.connections.by_id["c1"].end("killed", "the administrator has ended this")
        async with asyncio.timeout(3):
            while piece := await asyncio.get_running_loop().sock_recv(theirs, 4096):
                heard += piece
    except TimeoutError:
        pass
    finally:
        theirs.close()
        supervisor.close()
        link.close()
        netlink.close_thread_socket()
        await asyncio.sleep(0.05)
    assert b"the administrator has ended this" in heard
    assert not worker.connections.by_id

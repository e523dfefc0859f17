"""The connections of a worker: from a descriptor to the first bytes, and to the end."""

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from relay.serve.worker.connections import Connections
from relay.store import host_keys
from tests.serve.worker import parts


@contextmanager
def connections(state: Path) -> Iterator[tuple[Connections, list[tuple[str, str, bool]]]]:
    """Those of a worker with host keys in `state`, and the ends that it reports."""
    ended: list[tuple[str, str, bool]] = []
    with parts.context() as context:
        yield (
            Connections(context, state, authenticated=lambda session: None, ended=lambda *what: ended.append(what)),
            ended,
        )


CONN = {"t": "conn", "c": "c1", "source": "::ffff:203.0.113.7", "port": 4242}


async def test_a_descriptor_becomes_a_connection_that_speaks_ssh(tmp_path: Path) -> None:
    """The client sees the version line; an IPv4 address that came by IPv6 is an IPv4 address."""
    host_keys.ensure(tmp_path)
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    with connections(tmp_path) as (made, ended), theirs:
        made.serve(CONN, ours.detach())
        assert str(made.by_id["c1"].client.source) == "203.0.113.7"
        assert list(made.sessions()) == list(made.forwards()) == made.recorded_forwards() == []
        async with asyncio.timeout(10):
            assert (await asyncio.get_running_loop().sock_recv(theirs, 100)).startswith(b"SSH-2.0-relay\r\n")
        theirs.close()
        await parts.until(lambda: ended)
        assert ended == [("c1", "silent", False)]
        assert made.by_id == {}


async def test_without_host_keys_only_this_client_is_lost(tmp_path: Path) -> None:
    """The end is reported, so its slot at the supervisor is free again; the descriptor is closed."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    descriptor = ours.detach()
    with connections(tmp_path) as (made, ended), theirs:
        made.serve(CONN, descriptor)
        await parts.until(lambda: ended)
        assert made.by_id == {}
        try:
            data = theirs.recv(1)
        except ConnectionResetError:
            data = b""
        assert data == b""
        try:
            os.fstat(descriptor)
        except OSError:
            return
        raise AssertionError("the descriptor is still open")

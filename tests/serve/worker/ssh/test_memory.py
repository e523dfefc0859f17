"""What a connection keeps once its key is proven (relay/serve/worker/ssh/memory.py)."""

import asyncio
import socket
import sys
from typing import Any

import asyncssh

from relay.core.settings import Limits
from relay.serve.worker.forward.read_pacing import PacedSocket, ReadPacer
from relay.serve.worker.ssh import asyncssh_contract, memory
from relay.serve.worker.ssh.connection import Connection
from relay.serve.worker.ssh.fastpath.from_client import ClientReader
from relay.serve.worker.ssh.preauth import PreauthLayer


async def test_everything_is_as_before_but_what_was_let_go() -> None:
    """Each member that is not in LET_GO says what it said before, although most are not the connection's own."""
    one = new_connection()
    before = dict(vars(one))
    memory.drop_login_state(one)
    for name, value in before.items():
        assert name in asyncssh_contract.LET_GO or getattr(one, name) is value, name
    assert len(vars(one)) < len(before) / 2
    assert sys.getsizeof(vars(one)) < sys.getsizeof(before) / 2


async def test_what_changes_later_is_the_connections_own() -> None:
    """Two settled connections share what is alike; a change in one is none in the other, nor in a new one."""
    one, two = new_connection(), new_connection()
    for each in (one, two):
        memory.drop_login_state(each)
    one._kex_complete, one._rekey_bytes_sent, one._username = True, 7, "alice"
    three = new_connection()
    for each in (two, three):
        assert (each._kex_complete, each._rekey_bytes_sent, each._username) == (False, 0, "")
    one._close_event.set()
    assert one._close_event.is_set()
    assert not two._close_event.is_set()


async def test_other_options_are_not_mixed_up() -> None:
    """After a reload new connections have new options; those of before keep theirs."""
    one = new_connection()
    two = new_connection(rekey_bytes=12345)
    memory.drop_login_state(one)
    memory.drop_login_state(two)
    assert two._rekey_bytes == 12345 != one._rekey_bytes
    assert two._options is not one._options


async def test_a_connection_from_the_mould_is_what_asyncssh_makes() -> None:
    """Each member says what it says in one that asyncssh has made; lists, sets and dicts are its own."""
    options = asyncssh.SSHServerConnectionOptions(server_host_keys=[_KEY], login_timeout=0, gss_host=None)
    made, cast, other = (new_connection(options) for _ in range(3))
    assert PreauthLayer._mould is not None
    assert PreauthLayer._mould.options is options
    assert PreauthLayer._mould.fits
    apart = {
        "_intake",
        "_reader",
        "_rekeys",
        "_limits",
        "_protocol_factory",
        "_recv_handler",
        *memory.EACH,
        *asyncssh_contract.NEVER_USED,
    }
    for name, value in vars(made).items():
        assert name in apart or getattr(cast, name) == value, name
        shared = name not in asyncssh_contract.NEVER_USED and getattr(cast, name) is getattr(other, name)
        if isinstance(value, dict | list | set) and shared:
            assert any(value is one for one in vars(options).values()), name  # else it is its own
    for name in memory.EACH:
        assert type(getattr(cast, name)) is type(getattr(made, name)) or name == "_logger"
    assert cast._recv_handler == cast._recv_version
    cast._channels[1] = None  # type: ignore[assignment]
    assert not other._channels
    assert not new_connection(options)._channels


_KEY = asyncssh.generate_private_key("ssh-ed25519")


def new_connection(options: Any = None, **more: Any) -> Connection:
    """One without a client."""
    options = options or asyncssh.SSHServerConnectionOptions(
        server_host_keys=[_KEY], login_timeout=0, gss_host=None, **more
    )
    with socket.socket() as sock:
        reader = PacedSocket(ReadPacer(), sock)
    return Connection(
        *(asyncio.get_running_loop(), options, asyncssh.SSHServer(), Limits()),
        intake=ClientReader(),
        reader=reader,
        fast=True,
    )

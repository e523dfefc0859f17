"""What a connection keeps once its key is proven (relay/serve/settled.py)."""

import asyncio
import socket
import sys
from typing import Any

import asyncssh

from relay.core.settings import Limits
from relay.serve import contract, settled
from relay.serve.connection import Connection
from relay.serve.intake import Intake
from relay.serve.patience import Patience, Reader


async def test_everything_is_as_before_but_what_was_let_go() -> None:
    """Each member that is not in LET_GO says what it said before, although most are not the connection's own."""
    one = _connection()
    before = dict(vars(one))
    settled.settle(one)
    for name, value in before.items():
        assert name in contract.LET_GO or getattr(one, name) is value, name
    assert len(vars(one)) < len(before) / 2
    assert sys.getsizeof(vars(one)) < sys.getsizeof(before) / 2


async def test_what_changes_later_is_the_connections_own() -> None:
    """Two settled connections share what is alike; a change in one is none in the other, nor in a new one."""
    one, two = _connection(), _connection()
    for each in (one, two):
        settled.settle(each)
    one._kex_complete, one._rekey_bytes_sent, one._username = True, 7, "alice"
    three = _connection()
    for each in (two, three):
        assert (each._kex_complete, each._rekey_bytes_sent, each._username) == (False, 0, "")
    one._close_event.set()
    assert one._close_event.is_set()
    assert not two._close_event.is_set()


async def test_other_options_are_not_mixed_up() -> None:
    """After a reload new connections have new options; those of before keep theirs."""
    one = _connection()
    two = _connection(rekey_bytes=12345)
    settled.settle(one)
    settled.settle(two)
    assert two._rekey_bytes == 12345 != one._rekey_bytes
    assert two._options is not one._options


_KEY = asyncssh.generate_private_key("ssh-ed25519")


def _connection(**more: Any) -> Connection:
    options = asyncssh.SSHServerConnectionOptions(server_host_keys=[_KEY], login_timeout=0, gss_host=None, **more)
    with socket.socket() as sock:
        reader = Reader(Patience(), sock)
    return Connection(
        *(asyncio.get_running_loop(), options, asyncssh.SSHServer(), Limits()),
        intake=Intake(),
        reader=reader,
        fast=True,
    )

"""USERAUTH_REQUEST (RFC 4252 5) without saslprep; public keys are verified within the time budget."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import asyncssh
from asyncssh.connection import SSHServerConnection
from asyncssh.packet import SSHPacket

from relay.serve.worker.ssh.handlers import AuthHandler

MAX_USERNAME = 256  # bytes of a user name; it is only recorded


def decode_username(name: bytes) -> str:
    """The user name of a request. Never fails, and costs little: asyncssh's saslprep takes 9 ms for 1 kB."""
    return name[:MAX_USERNAME].decode(errors="replace")


def process_userauth_request(connection: SSHServerConnection, packet: SSHPacket) -> Coroutine[Any, Any, None] | None:
    """Handle a request like asyncssh, but decode the user name here, and require a service request before it.

    Raises DisconnectError and PacketDecodeError.
    """
    name, service, method = packet.get_string(), packet.get_string(), packet.get_string()
    if service != b"ssh-connection":
        raise asyncssh.ServiceNotAvailable("Unexpected service in auth request")
    if connection._auth_complete:
        if connection._auth_final:
            raise asyncssh.ProtocolError("Unexpected userauth request")
        return None  # sent before the client knew of its success (RFC 4252 5.3)
    if not connection._auth_in_progress:
        raise asyncssh.ProtocolError("authentication without a service request")
    if connection._auth is not None:
        connection._auth.cancel()
        connection._auth = None
    username = decode_username(name)
    is_new, connection._username = username != connection._username, username
    return connection._finish_userauth(is_new, method, packet)


async def in_turn(connection: SSHServerConnection, handler: AuthHandler, prove: Callable[[], bool]) -> bool:
    """Call `prove` within the time budget: a signature costs as much as many packets."""
    answer: asyncio.Future[bool] = connection._loop.create_future()

    def job() -> None:
        if answer.done() or connection._transport is None:  # another request has come, or the connection is over
            answer.cancel()
            return
        try:
            answer.set_result(prove() is True)
        except Exception as error:
            answer.set_exception(error)

    handler.in_turn(job)
    return await answer

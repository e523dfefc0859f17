"""What does a connection keep once its key is proven? Most are idle then, and asyncssh keeps 14 kB for each.

It has 130 members, most of them nothing or what all connections have alike, and the sets and texts of a client, of
certificates and of the finished key exchange. Those go here; what is alike is kept once, in the class. Which members
these are stands in `contract`.
"""

from typing import TYPE_CHECKING, Any

from asyncssh.connection import SSHServerConnection
from asyncssh.logging import logger

from relay.serve.contract import NEVER_USED

if TYPE_CHECKING:
    from relay.serve.connection import Connection

_NOTHING: frozenset[Any] = frozenset()
_MISSING = object()


class Unawaited:
    """For `asyncio.Event` (850 bytes) where asyncssh tells that a connection is over: nobody waits for that here."""

    __slots__ = ("_over",)

    def __init__(self) -> None:
        self._over = False

    def set(self) -> None:
        """It is over."""
        self._over = True

    def is_set(self) -> bool:
        """Whether it is over."""
        return self._over


def share(connection: SSHServerConnection, options: Any) -> None:
    """Remember, in its class, what the members of a new connection are: nothing, and what its options say.

    Values only that cannot change, or that belong to all connections with these options anyway.
    """
    shared = {id(options), *map(id, vars(options).values())}
    kind = type(connection)
    for name, value in vars(connection).items():
        if name not in vars(kind) and (value is None or type(value) in _PLAIN or id(value) in shared):
            setattr(kind, name, value)


def settle(connection: "Connection") -> None:
    """Let go of what is not needed any more. A later key exchange makes anew what it needs.

    Not where everything goes the inherited path: asyncssh may be another one than we know (see `contract`).
    """
    if not connection.fast:
        return
    connection._client_kexinit = connection._server_kexinit = b""
    connection._extensions_to_send = {}  # type: ignore[assignment]  # refilled, never reordered
    connection._protocol_factory = None  # type: ignore[assignment]  # it has made the owner
    connection._logger = logger
    kept = "client_version", "username"
    connection._extra = {name: connection._extra[name] for name in kept if name in connection._extra}
    for name in NEVER_USED:
        setattr(connection, name, _NOTHING)
    kind = type(connection)
    # a new dict, since one that things were taken out of stays as large as it was
    connection.__dict__ = {
        name: value for name, value in vars(connection).items() if value is not getattr(kind, name, _MISSING)
    }


_PLAIN = (bool, int, bytes, str)

"""What is a connection at first, and what does it keep once its key is proven? Most are idle then.

asyncssh makes 130 members, 14 kB, for each: most of them nothing or what all connections have alike, and the sets and
texts of a client, of certificates and of the finished key exchange. What is alike is kept once, in the class, and not
made again for each connection; the rest goes when the key is proven. Which members these are stands in `contract`.
"""

from typing import TYPE_CHECKING, Any

from asyncssh.connection import SSHServerConnection
from asyncssh.logging import logger

from relay.serve.worker.ssh.asyncssh_contract import NEVER_USED

if TYPE_CHECKING:
    from relay.serve.worker.ssh.connection import Connection

EACH = ("_close_event", "_logger", "_login_timer", "_loop", "_recv_handler")  # what is made for each new connection
_NOTHING: frozenset[Any] = frozenset()
_MISSING = object()


class ConnectionTemplate:
    """What asyncssh makes of a new connection, taken from one that it has made; others are cast from it."""

    def __init__(self, made: SSHServerConnection, options: Any) -> None:
        """`made` is new."""
        self.options = options
        self._alike: dict[str, Any] = {}
        self._own: list[tuple[str, Any]] = []  # what each has for itself: lists, sets and dicts
        self._cast = False
        shared = {id(options), *map(id, vars(options).values())}
        unknown = []
        for name, value in vars(made).items():
            if name in NEVER_USED:
                continue
            if value is None or type(value) in _PLAIN or id(value) in shared:
                self._alike[name] = value
            elif isinstance(value, dict | list | set):
                self._own.append((name, value.copy()))
            elif name not in EACH:
                unknown.append(name)
        self.fits = not unknown  # else it is another asyncssh: that makes each itself

    def fill(self, new: SSHServerConnection) -> None:
        """Give a new one all members but those of EACH."""
        if not self._cast:  # by now `share` has put into the class what most have alike
            kind, self._cast = type(new), True
            self._alike = {name: it for name, it in self._alike.items() if it is not getattr(kind, name, _MISSING)}
        members = vars(new)
        members.update(self._alike)
        for name, value in self._own:
            members[name] = value.copy()


class StubEvent:
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


def intern_defaults(connection: SSHServerConnection, options: Any) -> None:
    """Remember, in its class, what the members of a new connection are: nothing, and what its options say.

    Values only that cannot change, or that belong to all connections with these options anyway.
    """
    shared = {id(options), *map(id, vars(options).values())}
    kind = type(connection)
    for name, value in vars(connection).items():
        if name not in vars(kind) and (value is None or type(value) in _PLAIN or id(value) in shared):
            setattr(kind, name, value)
    for name in NEVER_USED:
        setattr(kind, name, _NOTHING)


def drop_login_state(connection: "Connection") -> None:
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
    kind, members = type(connection), vars(connection)
    for name in NEVER_USED:
        members.pop(name, None)
    # a new dict, since one that things were taken out of stays as large as it was
    connection.__dict__ = {name: value for name, value in members.items() if value is not getattr(kind, name, _MISSING)}


_PLAIN = (bool, int, float, bytes, str)

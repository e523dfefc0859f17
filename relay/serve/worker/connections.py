"""The connections of one worker: from the descriptor that the supervisor hands over to their end."""

import asyncio
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import asyncssh

from relay.serve import ssh_algorithms
from relay.serve.ipc import Message
from relay.serve.worker.authentication import Authentication
from relay.serve.worker.forward.context import WorkerContext
from relay.serve.worker.forward.forward import Forward
from relay.serve.worker.forward.read_pacing import PacedSocket
from relay.serve.worker.preauth_scheduler import PreauthScheduler
from relay.serve.worker.session import Client, Session
from relay.serve.worker.ssh.connection import Connection
from relay.serve.worker.ssh.fastpath.fast_path import is_switched_off
from relay.serve.worker.ssh.fastpath.from_client import ClientReader
from relay.store import host_keys

VERSION_LINE = "relay"  # in SSH-2.0-...: what it is, not which version


class Connections:
    """All connections: an `Authentication` until a key is proven, a `Session` from then on."""

    def __init__(
        self,
        context: WorkerContext,
        state: Path,
        *,
        authenticated: Callable[[Session], None],
        ended: Callable[[str, str, bool], None],
    ) -> None:
        """`authenticated` and `ended` are told when a connection is (`Ended` in session.py)."""
        self._context = context
        self._state = state
        self._authenticated = authenticated
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._options: asyncssh.SSHServerConnectionOptions | None = None
        self._reader = ClientReader()
        self._tasks: set[asyncio.Task[Any]] = set()  # the loop itself keeps only weak references
        self.scheduler = PreauthScheduler(time.monotonic, self._loop.call_soon)
        self.fast_path_off = "RELAY_FAST_PATH=no is set" if is_switched_off() else ""  # the reason; "" while it is on
        self.by_id: dict[str, Authentication | Session] = {}

    def sessions(self) -> Iterator[Session]:
        """The authenticated connections."""
        return (one for one in tuple(self.by_id.values()) if isinstance(one, Session))

    def forwards(self) -> Iterator[Forward]:
        """All forwards, including those that are being opened."""
        for session in self.sessions():
            yield from session.held()

    def recorded_forwards(self) -> list[Forward]:
        """The forwards whose opening row is durable and that are not over."""
        return [forward for forward in self.forwards() if forward.recorded]

    def settings_changed(self) -> None:
        """Later connections get the settings of then."""
        self._options = None

    def serve(self, message: Message, descriptor: int) -> None:
        """Serve the client of the message `conn`."""
        sock = socket.socket(fileno=descriptor)
        sock.setblocking(False)
        address = ip_address(message["source"])
        source = getattr(address, "ipv4_mapped", None) or address
        client = Client(message["c"], source, int(message["port"]), self._context.now_us())
        authentication = Authentication(
            self._context,
            self.scheduler,
            client,
            authenticated=self._begin_session,
            ended=self._end,
            key_deadline=float(message.get("slow", 0.0)),
        )
        self.by_id[client.id] = authentication
        self.scheduler.work(lambda: self._accept(authentication, sock))

    def _begin_session(self, session: Session) -> None:
        self.by_id[session.id] = session
        self._authenticated(session)

    def _end(self, number: str, failure: str, exchanged: bool) -> None:
        self.by_id.pop(number, None)
        self._ended(number, failure, exchanged)

    def _accept(self, authentication: Authentication, sock: socket.socket) -> None:
        try:
            options = self._options or self._make_options()
            connection = Connection(
                *(self._loop, options, authentication, self._context.authorizer.settings.limits),
                client_reader=self._reader,
                reader=PacedSocket(self._context.pacer, sock),
                fast=not self.fast_path_off,
            )
            self._start(self._begin(authentication, connection, sock), name="accept")
        except Exception as error:  # no host key, a socket that is gone already: this client alone is lost
            if not isinstance(error, OSError):
                self._context.audit.report_bug(error)
            sock.close()
            authentication.connection_lost(error)

    async def _begin(self, authentication: Authentication, connection: Connection, sock: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: connection, sock)
        except OSError as error:  # it is gone already
            sock.close()
            authentication.connection_lost(error)

    def _make_options(self) -> asyncssh.SSHServerConnectionOptions:
        settings = self._context.authorizer.settings
        keys = [asyncssh.import_private_key(key.private) for key in host_keys.load(self._state)]
        self._options = asyncssh.SSHServerConnectionOptions(
            server_host_keys=keys,
            server_version=VERSION_LINE,
            kex_algs=ssh_algorithms.KEX,
            encryption_algs=ssh_algorithms.ciphers(settings.chacha, ssh_algorithms.cpu_has_aes()),
            mac_algs=ssh_algorithms.MAC,
            compression_algs=None,
            signature_algs=ssh_algorithms.SIGNATURES,
            login_timeout=settings.limits.login_grace,
            keepalive_interval=0,
            gss_host=None,
            x509_trusted_certs=None,
            send_server_host_keys=True,
            allow_pty=False,
            agent_forwarding=False,
            x11_forwarding=False,
            rdns_lookup=False,
            tcp_keepalive=True,
        )
        return self._options

    def _start(self, work: Coroutine[Any, Any, None], *, name: str) -> None:
        task = self._loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

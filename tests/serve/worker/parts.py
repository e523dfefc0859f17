"""Parts of a worker for tests that need no process: its context, a connection over a socket pair, and a session."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from ipaddress import ip_address, ip_network
from typing import Any

import asyncssh

from relay.core.keys.authorized_keys import Key
from relay.core.keys.keyring import Keyring
from relay.core.policy.model import Identity, Rule, Zone
from relay.core.policy.policy import build_policy
from relay.core.settings import Limits
from relay.net.kernel import netlink
from relay.serve.authorizer import Authorizer
from relay.serve.ipc import IpcLink, Message
from relay.serve.worker.audit_client import AuditClient
from relay.serve.worker.forward.context import WorkerContext
from relay.serve.worker.forward.read_pacing import PacedSocket, ReadPacer
from relay.serve.worker.limit_share import LimitShare
from relay.serve.worker.session import Client, Session
from relay.serve.worker.ssh.connection import Connection
from relay.serve.worker.ssh.fastpath.from_client import ClientReader
from relay.serve.worker.ssh.fastpath.to_client import ClientWriter
from relay.serve.worker.statistics import WorkerStatistics

KEY = Key("SHA256:x", "ssh-ed25519", 256, "", b"", "alice", file="keys/alice.pub", line=1)
CLIENT = Client("c1", ip_address("203.0.113.7"), 4242, 0)
ALICE = Identity("alice", KEY.fingerprint, CLIENT.source)
HERE = Zone("here", (ip_network("127.0.0.0/8"),), "lo")
ALL_PORTS = ((1, 65535),)


def allow(zone: Zone, ports: tuple[tuple[int, int], ...] = ALL_PORTS) -> Rule:
    """A rule by which every person reaches these ports of the zone's first network."""
    return Rule("all", True, frozenset(), True, frozenset(), ((zone.name, zone.networks[0]),), ports)


def apply(authorizer: Authorizer, *rules: Rule, zone: Zone = HERE, keys: tuple[Key, ...] = (KEY,)) -> None:
    """Put a policy and keys into force."""
    authorizer.policy = build_policy(version="1", zones=[zone], hosts=[], groups={}, rules=rules)
    authorizer.keyring = Keyring({key.fingerprint: key for key in keys})


@contextmanager
def context(*rules: Rule, zone: Zone = HERE) -> Iterator[WorkerContext]:
    """What sessions and forwards share; the kernel's socket is closed afterwards."""
    numbers = iter(range(1, 1 << 30))
    made = WorkerContext(
        worker="w1",
        authorizer=Authorizer(lambda: None),
        audit=AuditClient(lambda: f"n{next(numbers)}", lambda: 7_000_000),
        limits=LimitShare(),
        statistics=WorkerStatistics(),
        pacer=ReadPacer(),
        writer=ClientWriter(),
        owns_address=lambda index, address: True,
        make_id=lambda: f"n{next(numbers)}",
        now_us=lambda: 7_000_000,
    )
    apply(made.authorizer, *rules, zone=zone)
    try:
        yield made
    finally:
        netlink.close_thread_socket()


def rows(made: WorkerContext, name: str) -> list[dict[str, Any]]:
    """The fields of all events of that name that no supervisor has acknowledged."""
    return [fields for _, _, event, fields in made.audit.unacknowledged_events() if event == name]


@contextmanager
def connection(owner: asyncssh.SSHServer | None = None) -> Iterator[Connection]:
    """A connection of which the client's end is open and silent."""
    options = asyncssh.SSHServerConnectionOptions(server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")])
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Connection(
            asyncio.get_running_loop(),
            options,
            owner or asyncssh.SSHServer(),
            Limits(keepalive_interval=0),
            client_reader=ClientReader(),
            reader=PacedSocket(ReadPacer(), ours),
            fast=True,
        )


def session(made: WorkerContext, over: Connection, ended: list[str] | None = None) -> Session:
    """Alice's session; the ids of ended ones go to `ended`."""

    def end(number: str, failure: str, exchanged: bool) -> None:
        if ended is not None:
            ended.append(number)

    return Session(made, CLIENT, over, identity=ALICE, key=KEY, login="alice", ended=end)


class Supervisor:
    """The supervisor's end of a link: keeps the messages and answers opening rows."""

    def __init__(self, sock: socket.socket) -> None:
        self.messages: list[Message] = []
        self.answer: Callable[[str], Message | None] = lambda forward: {"t": "opened", "f": forward}
        self.link = IpcLink(sock, self._received, lambda _: None)

    def _received(self, link: IpcLink, message: Message, descriptor: int | None) -> None:
        self.messages.append(message)
        if message["t"] == "open" and (answer := self.answer(message["e"][0])) is not None:
            link.send(answer)

    def of(self, kind: str) -> list[Message]:
        """The messages of that kind."""
        return [message for message in self.messages if message["t"] == kind]


@asynccontextmanager
async def supervisor(made: WorkerContext) -> AsyncIterator[Supervisor]:
    """Connect the context's audit client to a supervisor."""
    ours, theirs = socket.socketpair()
    other = Supervisor(theirs)

    def received(link: IpcLink, message: Message, descriptor: int | None) -> None:
        if message["t"] in ("opened", "busy"):
            made.audit.opening_answered(message["f"], message.get("reason", ""), message.get("limit", ""))

    made.audit.link = IpcLink(ours, received, lambda _: None)
    try:
        yield other
    finally:
        made.audit.link.close()
        other.link.close()
        await asyncio.sleep(0)


async def until(true: Callable[[], object]) -> None:
    """Wait until that is true, ten seconds at most."""
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.001)

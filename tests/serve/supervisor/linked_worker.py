"""A worker pool with one joined worker, whose messages a test reads at the other end of the real link."""

import asyncio
import socket
from pathlib import Path

from relay.serve.ipc import IpcLink, Message
from relay.serve.supervisor.worker_pool import WorkerHandle, WorkerPool


class LinkedWorker:
    """One worker as the supervisor sees it, and what it was sent."""

    def __init__(self, state: Path, name: str = "w1") -> None:
        self.pool = WorkerPool(state, lambda *_: None, lambda _: None, lambda _: None, lambda _: None)
        ours, theirs = socket.socketpair()
        self.received: list[Message] = []
        self.descriptors: list[int] = []
        self._far = IpcLink(theirs, self._receive, lambda _: None)
        self.link = IpcLink(ours, lambda *_: None, lambda _: None)
        self.handle = WorkerHandle(name, self.link, 1, 1, ours=True, ready=True)
        self.handle.answered = asyncio.get_running_loop().time()
        self.pool.members[name] = self.handle

    def _receive(self, _: IpcLink, message: Message, descriptor: int | None) -> None:
        self.received.append(message)
        if descriptor is not None:
            self.descriptors.append(descriptor)

    async def wait_for(self, kind: str, count: int = 1) -> list[Message]:
        """The messages of that kind, once there are so many."""
        async with asyncio.timeout(10):
            while len(found := [message for message in self.received if message["t"] == kind]) < count:
                await asyncio.sleep(0.005)
        return found

    def close(self) -> None:
        """Close both ends."""
        self.link.close()
        self._far.close()

"""A fair semaphore for dials: a bounded number at once in one worker, and each person in turn.

A network that does not answer holds every dial for its whole timeout. So that the hosts of other people are still
dialled at once, the number is bounded, and one person gets half of it at most.
"""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from relay.serve.worker.forward.dial import DialFailed


class DialSemaphore:
    """The dials in progress in this worker, and those that wait."""

    def __init__(self, limit: int) -> None:
        self.limit = limit  # may be changed at any time
        self.in_progress = 0
        self._per_person: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()  # the next person comes first

    @asynccontextmanager
    async def slot(self, person: str, timeout: float) -> AsyncIterator[None]:
        """Hold one slot while dialling. Raises DialFailed when none is free within `timeout` seconds."""
        await self._acquire(person, timeout)
        try:
            yield
        finally:
            self._release(person)

    async def _acquire(self, person: str, timeout: float) -> None:
        if self._is_free(person) and person not in self._waiting:
            self._take(person)
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(person, deque()).append(granted)
        try:
            async with asyncio.timeout(timeout):
                await granted
        except BaseException as error:
            if granted.done() and not granted.cancelled():  # it was granted in the same moment
                self._release(person)
            else:
                self._forget(person, granted)
            if isinstance(error, TimeoutError):
                detail = f"no place to dial within {timeout:g} s: {self.in_progress} are taken"
                raise DialFailed("busy", detail) from None
            raise

    def _is_free(self, person: str) -> bool:
        return self.in_progress < self.limit and self._per_person[person] < max(self.limit // 2, 1)

    def _take(self, person: str) -> None:
        self.in_progress += 1
        self._per_person[person] += 1

    def _release(self, person: str) -> None:
        """Give the slot to the next dial."""
        self.in_progress -= 1
        self._per_person[person] -= 1
        if not self._per_person[person]:
            del self._per_person[person]
        for other in tuple(self._waiting):
            while other in self._waiting and self._is_free(other):
                granted = self._waiting[other].popleft()
                self._waiting.move_to_end(other)
                if not self._waiting[other]:
                    del self._waiting[other]
                if not granted.done():
                    self._take(other)
                    granted.set_result(None)
                    break

    def _forget(self, person: str, granted: "asyncio.Future[None]") -> None:
        waiting = self._waiting.get(person)
        if waiting is not None and granted in waiting:
            waiting.remove(granted)
            if not waiting:
                del self._waiting[person]

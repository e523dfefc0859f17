"""Whose turn is it to dial? So many dials at once in one worker, and each person in turn.

A network that does not answer holds every dial for its whole time-out. So that the hosts of others are still dialled
at once, the number is bounded, and one person has half of it at most. Who waits longer than a dial may take is told.
"""

import asyncio
from collections import Counter, OrderedDict, deque

from relay.serve.worker.forward.dial import DialFailed


class DialSemaphore:
    """The dials that are under way in this worker, and those that wait."""

    def __init__(self, most: int) -> None:
        self.most = most  # may be changed at any time
        self.under_way = 0
        self._per_person: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()  # whose turn is next comes first

    async def enter(self, person: str, seconds: float) -> None:
        """Take one of the places, waiting for it for so long at most. Raises DialFailed when none was free in time."""
        if not self._free(person) or person in self._waiting:
            await self._wait(person, seconds)
        else:
            self._take(person)

    async def _wait(self, person: str, seconds: float) -> None:
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(person, deque()).append(place)
        try:
            async with asyncio.timeout(seconds):
                await place
        except BaseException as error:
            if place.done() and not place.cancelled():  # it was given the place in the same moment
                self.leave(person)
            else:
                self._forget(person, place)
            if isinstance(error, TimeoutError):
                raise DialFailed("busy", f"no place to dial within {seconds:g} s: {self.under_way} are taken") from None
            raise

    def _free(self, person: str) -> bool:
        return self.under_way < self.most and self._per_person[person] < max(self.most // 2, 1)

    def _take(self, person: str) -> None:
        self.under_way += 1
        self._per_person[person] += 1

    def leave(self, person: str) -> None:
        """Give the place to whoever is next."""
        self.under_way -= 1
        self._per_person[person] -= 1
        if not self._per_person[person]:
            del self._per_person[person]
        for other in tuple(self._waiting):
            while other in self._waiting and self._free(other):
                place = self._waiting[other].popleft()
                self._waiting.move_to_end(other)
                if not self._waiting[other]:
                    del self._waiting[other]
                if not place.done():
                    self._take(other)
                    place.set_result(None)
                    break

    def _forget(self, person: str, place: "asyncio.Future[None]") -> None:
        waiting = self._waiting.get(person)
        if waiting is not None and place in waiting:
            waiting.remove(place)
            if not waiting:
                del self._waiting[person]

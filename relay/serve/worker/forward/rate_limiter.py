"""A token bucket for each person, shared by all of the person's forwards in this worker.

The bucket is charged after the read and may go negative; the forward that overdrew it then queues behind the person's
other forwards until the debt is paid. In the long run exactly the rate flows.
"""

import asyncio
from collections import OrderedDict
from typing import Protocol

from relay.core.token_bucket import TokenBucket

BURST_SECONDS = 0.25  # bytes that may flow at once, in seconds of the rate
MIN_BURST = 1 << 16  # but at least the bytes of one turn of a forward


class Limited(Protocol):
    """A forward."""

    def resume(self) -> None:
        """The rate allows more now."""


class RateLimiter:
    """The rate limit of one person in this worker."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._bucket = TokenBucket(0.0, 0.0)
        self._waiting: OrderedDict[Limited, int] = OrderedDict()  # -> bytes that it moved last
        self._prepaid: dict[Limited, int] = {}  # charged when a forward was resumed: as many bytes as it moved last
        self._timer: asyncio.TimerHandle | None = None
        self.rate = 0.0  # bytes per second; 0: no limit
        self.moved = 0  # bytes, for `rates` of the message `use`

    def change(self, rate: float) -> None:
        """Set the rate; 0: no limit."""
        if rate == self.rate:
            return
        self._bucket.change(self._loop.time(), rate, max(rate * BURST_SECONDS, MIN_BURST))
        self.rate = rate
        self._resume()

    def charge(self, forward: Limited, amount: int) -> bool:
        """Charge bytes that were moved: whether it may go on; if not, `resume` is called when it may."""
        self.moved += amount
        if not self.rate:
            return True
        now = self._loop.time()
        self._bucket.take(now, amount - self._prepaid.pop(forward, 0))
        if not self._bucket.wait(now, 0) and not self._waiting:
            return True
        self._waiting[forward] = amount
        self._schedule()
        return False

    @property
    def in_debt(self) -> bool:
        """Whether more bytes were moved than the rate allows by now."""
        return bool(self.rate) and self._bucket.wait(self._loop.time(), 0) > 0

    def leave(self, forward: Limited) -> None:
        """The forward has ended."""
        self._waiting.pop(forward, None)
        unspent = self._prepaid.pop(forward, 0)
        if unspent and self.rate:
            self._bucket.take(self._loop.time(), -unspent)

    def _schedule(self) -> None:
        if self._timer is None and self._waiting:
            self._timer = self._loop.call_later(self._bucket.wait(self._loop.time(), 0), self._resume)

    def _resume(self) -> None:
        """Resume the forwards that have waited longest, as many as the bucket allows."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for _ in range(len(self._waiting)):  # only those that wait now: a resumed one may be back at once
            if not self._waiting or (self.rate and self._bucket.wait(self._loop.time(), 0)):
                break
            forward, amount = self._waiting.popitem(last=False)
            if self.rate:
                self._prepaid[forward] = amount
                self._bucket.take(self._loop.time(), amount)
            forward.resume()
        self._schedule()


class RateLimiters:
    """The rate limiters of all persons in this worker."""

    def __init__(self) -> None:
        self._limiters: dict[str, RateLimiter] = {}
        self._forwards: dict[str, int] = {}  # person -> forwards that hold its limiter
        self._rate = 0
        self._parts: dict[str, float] = {}

    def acquire(self, person: str) -> RateLimiter:
        """The limiter of that person, for one more forward."""
        if person not in self._limiters:
            self._limiters[person] = RateLimiter()
            self._limiters[person].change(self._rate * self._parts.get(person, 1.0))
        self._forwards[person] = self._forwards.get(person, 0) + 1
        return self._limiters[person]

    def release(self, person: str) -> None:
        """A forward of that person has ended."""
        self._forwards[person] -= 1
        if not self._forwards[person]:
            del self._forwards[person]
            self._forget(person)

    def _forget(self, person: str) -> None:
        """Drop an unused limiter. A debt is kept: otherwise new forwards would be a way around the rate."""
        if person not in self._forwards and not self._limiters[person].in_debt:
            del self._limiters[person]

    def change(self, rate: int) -> None:
        """Set the rate of each person."""
        self._rate = rate
        self.share(self._parts)

    def share(self, parts: dict[str, float]) -> None:
        """Set this worker's part of the rate, for persons that have forwards in other workers too."""
        self._parts = parts
        for person, limiter in self._limiters.items():
            limiter.change(self._rate * parts.get(person, 1.0))

    def rates(self, seconds: float, most: int = 20) -> dict[str, int]:
        """Bytes per second of the busiest persons since the last call, `seconds` ago."""
        moved = sorted(((one.moved, person) for person, one in self._limiters.items() if one.moved), reverse=True)
        for person, limiter in tuple(self._limiters.items()):
            limiter.moved = 0
            self._forget(person)
        return {person: round(amount / seconds) for amount, person in moved[:most]} if self._rate else {}

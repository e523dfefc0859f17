"""May this person's forwards carry more bytes now? A token bucket for each person, spent by all of its forwards.

Bytes are paid for when they have been taken from the client or the target, so the bucket may be in debt; then who
spent last waits, in line with the person's other forwards, until it is paid. In the long run exactly the rate flows.
"""

import asyncio
from collections import OrderedDict
from typing import Protocol

from relay.core.token_bucket import TokenBucket

BURST_SECONDS = 0.25  # what may flow at once, in seconds of the rate
LEAST_BURST = 1 << 16  # but at least what one turn of a forward carries


class Limited(Protocol):
    """A forward."""

    def afford(self) -> None:
        """It may go on."""


class RateLimiter:
    """What one person's forwards in this worker may carry."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._bucket = TokenBucket(0.0, 0.0)
        self._waiting: OrderedDict[Limited, int] = OrderedDict()  # -> what it spent last
        self._paid: dict[Limited, int] = {}  # paid in advance for those who were let go on: as much as they spent last
        self._timer: asyncio.TimerHandle | None = None
        self.rate = 0.0  # bytes per second; 0: no limit
        self.spent = 0  # for `rates` of the message `use`

    def change(self, rate: float) -> None:
        """Another rate from now on; 0: no limit."""
        if rate == self.rate:
            return
        self._bucket.change(self._loop.time(), rate, max(rate * BURST_SECONDS, LEAST_BURST))
        self.rate = rate
        self._wake()

    def spend(self, payer: Limited, amount: int) -> bool:
        """`payer` has carried that many bytes: whether it may go on; if not, `afford` is called when it may."""
        self.spent += amount
        if not self.rate:
            return True
        now = self._loop.time()
        self._bucket.take(now, amount - self._paid.pop(payer, 0))
        if not self._bucket.wait(now, 0) and not self._waiting:
            return True
        self._waiting[payer] = amount
        self._wait()
        return False

    @property
    def owes(self) -> bool:
        """Whether more was carried than is paid for by now."""
        return bool(self.rate) and self._bucket.wait(self._loop.time(), 0) > 0

    def leave(self, payer: Limited) -> None:
        """The forward has ended."""
        self._waiting.pop(payer, None)
        unspent = self._paid.pop(payer, 0)
        if unspent and self.rate:
            self._bucket.take(self._loop.time(), -unspent)

    def _wait(self) -> None:
        if self._timer is None and self._waiting:
            self._timer = self._loop.call_later(self._bucket.wait(self._loop.time(), 0), self._wake)

    def _wake(self) -> None:
        """Let go on who waits longest, as many as can be paid for."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for _ in range(len(self._waiting)):  # those only who waited before: they may be back at once
            if not self._waiting or (self.rate and self._bucket.wait(self._loop.time(), 0)):
                break
            payer, amount = self._waiting.popitem(last=False)
            if self.rate:
                self._paid[payer] = amount
                self._bucket.take(self._loop.time(), amount)
            payer.afford()
        self._wait()


class RateLimiters:
    """The purses of all persons in this worker."""

    def __init__(self) -> None:
        self._purses: dict[str, RateLimiter] = {}
        self._holders: dict[str, int] = {}
        self._rate = 0
        self._parts: dict[str, float] = {}

    def take(self, person: str) -> RateLimiter:
        """The purse of that person, for one more forward."""
        if person not in self._purses:
            self._purses[person] = RateLimiter()
            self._purses[person].change(self._rate * self._parts.get(person, 1.0))
        self._holders[person] = self._holders.get(person, 0) + 1
        return self._purses[person]

    def give_back(self, person: str) -> None:
        """A forward of that person has ended."""
        self._holders[person] -= 1
        if not self._holders[person]:
            del self._holders[person]
            self._forget(person)

    def _forget(self, person: str) -> None:
        """A debt outlives the forwards that made it: else who opens them again and again carries what they like."""
        if person not in self._holders and not self._purses[person].owes:
            del self._purses[person]

    def change(self, rate: int) -> None:
        """Another rate for each person."""
        self._rate = rate
        self.share(self._parts)

    def share(self, parts: dict[str, float]) -> None:
        """Which part of the rate is this worker's, for persons who have forwards in others too."""
        self._parts = parts
        for person, purse in self._purses.items():
            purse.change(self._rate * parts.get(person, 1.0))

    def rates(self, seconds: float, most: int = 20) -> dict[str, int]:
        """Bytes per second of those who carried most since this was last asked, `seconds` ago."""
        spent = sorted(((purse.spent, person) for person, purse in self._purses.items() if purse.spent), reverse=True)
        for person, purse in tuple(self._purses.items()):
            purse.spent = 0
            self._forget(person)
        return {person: round(amount / seconds) for amount, person in spent[:most]} if self._rate else {}

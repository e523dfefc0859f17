"""Schedule of zone checks: after each change that the kernel reports, and twice a second anyway.

While nothing is open, an unreported change cannot mislead any packet, and the interval is longer. Changes come in
bursts (a restart of ZeroTier is a dozen): they are collected for a moment. Checks are at least REST apart and take at
most a fifth of a core. Both serving processes have one monitor.
"""

import asyncio
from collections.abc import Awaitable, Callable

from relay.errors import RelayError
from relay.net.kernel.change_events import ChangeEvents

GATHER = 0.005  # seconds from the first change to the check: meanwhile an open flow may go to the wrong neighbour
REST = 0.05  # seconds between checks: at most 20 a second
BELT = 0.5  # seconds without a change: a forged ICMP redirect is not reported, and must not last longer than a second
IDLE_BELT = 10.0  # while nothing is open
CHANGE_SHARE = 4  # after a check that took n seconds, the next one starts 4 n later at the earliest
BELT_SHARE = 50  # likewise without a change, where changes are reported: at most 2 % of a core


class RouteMonitor:
    """Calls `check` until cancelled: at once, after each change, and each half second."""

    def __init__(
        self,
        check: Callable[[], Awaitable[None]],
        bug: Callable[[BaseException], None],
        idle: Callable[[], bool] = lambda: False,
    ) -> None:
        """`idle` tells whether nothing is open; when that ends, the owner must call `begin`."""
        self._loop = asyncio.get_running_loop()
        self._check = check
        self._bug = bug
        self._idle = idle
        self._changed = asyncio.Event()
        self._begun: asyncio.TimerHandle | None = None
        self._watch: ChangeEvents | None = None
        self.trouble = ""  # why changes are not reported; "" while they are

    async def run(self) -> None:
        """Check until cancelled."""
        try:
            self._watch = ChangeEvents()
        except (OSError, RelayError) as error:
            self.trouble = str(error)
        try:
            while True:
                began = self._loop.time()
                try:
                    await self._check()
                except Exception as error:  # the next check may succeed, and must come
                    self._bug(error)
                spent = self._loop.time() - began
                reported = self._watch is not None  # otherwise the interval alone triggers checks
                belt = max(IDLE_BELT if self._idle() else BELT, BELT_SHARE * spent) if reported else BELT
                await self._wait(max(REST, CHANGE_SHARE * spent), belt)
        finally:
            self._stop_watching()
            if self._begun is not None:
                self._begun.cancel()

    def check_now(self) -> None:
        """Check soon, for another reason than a change of the kernel's tables."""
        self._changed.set()

    def begin(self) -> None:
        """A forward is open from now on. Its dial has just checked the route, so the first check comes after BELT."""
        if self._begun is None:
            self._begun = self._loop.call_later(BELT, self._begin)

    def _begin(self) -> None:
        self._begun = None
        if not self._idle():  # a log-in for a single command may be over by now
            self._changed.set()

    async def _wait(self, rest: float, belt: float) -> None:
        """Rest, then until something changes, or for so long; afterwards all changes so far are taken."""
        rested = self._loop.time() + rest
        if self._watch is not None:
            self._loop.add_reader(self._watch.fileno(), self._readable)
        try:
            async with asyncio.timeout(rest + belt):  # one timer: without a change there is one wake-up per check
                await self._changed.wait()
            await asyncio.sleep(max(GATHER, rested - self._loop.time()))
        except TimeoutError:
            pass
        finally:
            if self._watch is not None:
                self._loop.remove_reader(self._watch.fileno())
        self._changed.clear()
        if self._watch is not None:
            try:
                self._watch.drain()  # the rest of a flood is read after the next check
            except OSError as error:
                self.trouble = str(error)
                self._stop_watching()

    def _readable(self) -> None:
        if self._watch is not None:
            self._loop.remove_reader(self._watch.fileno())
        self._changed.set()

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None

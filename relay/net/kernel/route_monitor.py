"""When is it time to look at the zones again? When the kernel says that something changed, and twice a second anyway.

While nothing is open there is nothing that a change without a word could lead astray, and the belt is longer.

Changes come in swarms (a restart of ZeroTier is a dozen of them): they are gathered for a moment, and looks are never
closer together than REST, nor do they take more than a fifth of a core. Both serving processes have one of these.
"""

import asyncio
from collections.abc import Awaitable, Callable

from relay.errors import RelayError
from relay.net.kernel.change_events import ChangeEvents

GATHER = 0.005  # seconds from the first change to the look; longer, and an open flow says more to the wrong neighbour
REST = 0.05  # between looks: at most 20 a second
BELT = 0.5  # without a change: a forged ICMP redirect is told to nobody, and what it leads astray is to end in a second
IDLE_BELT = 10.0  # while nothing is open
CHANGE_SHARE = 4  # after a look that took n seconds, the next comes 4 n later at the earliest
BELT_SHARE = 50  # likewise without a change, where changes are told: a look without need costs at most 2 % of a core


class RouteMonitor:
    """Calls `look` for ever: at once, after each change, and each half second."""

    def __init__(
        self,
        check: Callable[[], Awaitable[None]],
        bug: Callable[[BaseException], None],
        idle: Callable[[], bool] = lambda: False,
    ) -> None:
        """`idle`: whether nothing is open; when that ends, somebody must call `begin`."""
        self._loop = asyncio.get_running_loop()
        self._check = check
        self._bug = bug
        self._idle = idle
        self._changed = asyncio.Event()
        self._begun: asyncio.TimerHandle | None = None
        self._watch: ChangeEvents | None = None
        self.trouble = ""  # why changes are not told; "" while they are

    async def run(self) -> None:
        """Look, for ever; ends by being cancelled."""
        try:
            self._watch = ChangeEvents()
        except (OSError, RelayError) as error:
            self.trouble = str(error)
        try:
            while True:
                began = self._loop.time()
                try:
                    await self._check()
                except Exception as error:  # the next look may go well, and must come
                    self._bug(error)
                spent = self._loop.time() - began
                told = self._watch is not None  # of changes: else the belt is all there is
                belt = max(IDLE_BELT if self._idle() else BELT, BELT_SHARE * spent) if told else BELT
                await self._wait(max(REST, CHANGE_SHARE * spent), belt)
        finally:
            self._stop_watching()
            if self._begun is not None:
                self._begun.cancel()

    def check_now(self) -> None:
        """Let the next look come soon, for another reason than a change of the kernel's tables."""
        self._changed.set()

    def begin(self) -> None:
        """Something is open from now on. It has just asked for itself, so the first look is that of the belt."""
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
            async with asyncio.timeout(rest + belt):  # in one: who is not told of a change wakes once for each look
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
                self._watch.drain()  # what a flood leaves is read again at once, after the look
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

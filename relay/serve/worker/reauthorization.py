"""Periodic re-authorization of everything that a worker has open: after each change, and once a second.

Sleeps while the worker has no sessions; `check_now` wakes it. Keys come first, as they are the quickest to check and
the most urgent; then each forward, including those that are being opened. Other work of the loop comes between.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator

from relay.serve.ticker import seconds_to_tick
from relay.serve.worker.session import Session

SECONDS = 1.0  # rules' hours, `until` and key expiry pass without a message
TURN = 0.001  # seconds of checking before other work has its turn


class LoopSlices:
    """Divides a long task into slices, between which other work of the loop is done."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()

    async def rest(self) -> None:
        """Called between two steps: returns at once, or after a turn of the loop when the slice is used up."""
        if self._loop.time() - self._began >= TURN:
            await asyncio.sleep(0)
            self._began = self._loop.time()


class Reauthorization:
    """Checks all sessions for ever. `sessions` gives those of the worker."""

    def __init__(self, sessions: Callable[[], Iterable[Session]], bug: Callable[[BaseException], None]) -> None:
        self._sessions = sessions
        self._bug = bug
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def check_now(self) -> None:
        """The configuration has changed, or there is a first session."""
        self._changed.set()

    async def run(self) -> None:
        """For ever; ends by being cancelled."""
        while True:
            is_idle = next(iter(self._sessions()), None) is None
            try:
                async with asyncio.timeout(None if is_idle else seconds_to_tick(self._loop.time(), SECONDS)):
                    await self._changed.wait()
            except TimeoutError:
                pass
            self._changed.clear()
            await self.check_all()

    async def check_all(self) -> None:
        """Check every session once."""
        slices = LoopSlices()
        for check in (_check_key, Session.check_forwards):
            for session in tuple(self._sessions()):
                try:
                    for _ in check(session):
                        await slices.rest()
                except Exception as error:  # a bug in one session must not keep the others from being checked
                    self._bug(error)
                    session.end("internal-error", "an internal error")
                await slices.rest()


def _check_key(session: Session) -> Iterator[None]:
    session.check_key()
    yield

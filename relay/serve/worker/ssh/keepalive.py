"""Keepalive requests to a silent client. asyncssh would set a timer anew for every packet."""

import asyncio
from collections.abc import Callable

from relay.core.settings import Limits


class Keepalive:
    """Sends requests to a client that sends nothing, and ends the connection after too many silent intervals."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        limits: Limits,
        *,
        ask: Callable[[], None],
        lost: Callable[[], None],
    ) -> None:
        """`ask` is called after each silent interval, `lost` after more than `keepalive_count` of them."""
        self._loop = loop
        self._interval = limits.keepalive_interval
        self._count = limits.keepalive_count
        self._ask = ask
        self._lost = lost
        self._silent = 0  # intervals without a byte of the client
        self._timer: asyncio.TimerHandle | None = None
        self.heard = False  # the client has sent something in this interval

    def start(self) -> None:
        """Start the timer."""
        self._timer = self._loop.call_later(self._interval, self._check)

    def stop(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _check(self) -> None:
        self._silent = 0 if self.heard else self._silent + 1
        self.heard = False
        if self._silent > self._count:
            self._lost()
            return
        if self._silent:
            self._ask()
        self._timer = self._loop.call_later(self._interval, self._check)

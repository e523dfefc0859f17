"""Keepalives: a silent client is asked, and given up."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from relay.core.settings import Limits
from relay.serve.worker.ssh.keepalive import Keepalive


class Timers:
    """Stands for an event loop: timers run when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, seconds: float, call: Callable[[], None]) -> asyncio.Handle:
        self.waiting.append((seconds, call))
        return cast(asyncio.Handle, self)

    def cancel(self) -> None:
        self.waiting.clear()

    def run(self) -> None:
        """Run the timer that waits."""
        ((seconds, call),) = self.waiting
        assert seconds == 7
        self.waiting.clear()
        call()


def keepalive(timers: Timers, log: list[str]) -> Keepalive:
    """One that asks twice."""
    limits = Limits(keepalive_interval=7, keepalive_count=2)
    loop = cast(Any, timers)
    return Keepalive(loop, limits, ask=lambda: log.append("ask"), lost=lambda: log.append("lost"))


def test_a_silent_client_is_asked_and_given_up() -> None:
    """After each silent interval there is a request, and after more than the count of them the end."""
    timers, log = Timers(), list[str]()
    keepalive(timers, log).start()
    for _ in range(3):
        timers.run()
    assert log == ["ask", "ask", "lost"]
    assert timers.waiting == []


def test_any_byte_of_the_client_counts_as_an_answer() -> None:
    """A client that sends in every interval is never asked; one that answers late is not given up."""
    timers, log = Timers(), list[str]()
    one = keepalive(timers, log)
    one.start()
    for heard in (True, False, False, True, False, False):
        one.heard = heard
        timers.run()
    assert log == ["ask"] * 4


def test_nothing_is_asked_after_the_end() -> None:
    """The timer ends with the connection."""
    timers, log = Timers(), list[str]()
    one = keepalive(timers, log)
    one.start()
    one.stop()
    assert timers.waiting == []

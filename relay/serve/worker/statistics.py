"""What does a worker count for whoever watches the relay? It tells the supervisor once a second what has increased.

Nothing here is on the path of a byte: what flowed is read from the open forwards, some of them per turn of the loop.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Protocol

from relay.core.histogram import Histogram
from relay.serve.ipc import Message
from relay.serve.ticker import Ticker

BEAT_SECONDS = 0.1  # how often the loop's lag is measured
BEATS = 10  # of these per message
SLICE = 256  # forwards looked at per turn of the loop
MOST_ZONES = 64  # told apart in one message


class ForwardBytes(Protocol):
    """A forward: how many bytes went to the target and came from it since it was last asked."""

    def flowed(self) -> tuple[int, int]: ...


class _Dialling:
    """One dial. No generator: contextlib sets attributes of the exception, and DialFailed is a frozen value."""

    __slots__ = ("_began", "_figures", "_zone")

    def __init__(self, figures: "WorkerStatistics", zone: str) -> None:
        self._figures = figures
        self._zone = zone

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None or issubclass(kind, Exception):
            self._figures.dialled(self._zone, "failed" if kind else "connected", time.monotonic() - self._began)


class WorkerStatistics:
    """The counts of one worker since it last told them."""

    def __init__(self) -> None:
        self._sent = 0
        self._received = 0
        self._denied: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._dials: dict[tuple[str, str], Histogram] = {}
        self._lag = Histogram()

    def denied(self, reason: str) -> None:
        """A forward was denied."""
        self._denied[reason] += 1

    def refused(self, kind: str) -> None:
        """Something that is no direct-tcpip was refused."""
        self._refused[kind] += 1

    def dialling(self, zone: str) -> "_Dialling":
        """Around a dial: how long it took to connect or to fail; one that is given up counts for nothing."""
        return _Dialling(self, zone)

    def dialled(self, zone: str, result: str, seconds: float) -> None:
        """A dial ended: `connected` or `failed`."""
        key = zone, result
        if key not in self._dials and len(self._dials) >= MOST_ZONES:
            key = "", result
        self._dials.setdefault(key, Histogram()).observe(seconds)

    def flowed(self, forward: ForwardBytes) -> None:
        """Count what went through a forward since the last time; at its end too."""
        sent, received = forward.flowed()
        self._sent += sent
        self._received += received

    def take(self) -> Message:
        """The message `figures`: all that was counted since the last one."""
        message: Message = {
            "t": "figures",
            "sent": self._sent,
            "received": self._received,
            "denied": dict(self._denied),
            "refused": dict(self._refused),
            "dials": [[zone, result, histogram.take()] for (zone, result), histogram in self._dials.items()],
            "lag": self._lag.take(),
        }
        self._sent = self._received = 0
        self._denied.clear()
        self._refused.clear()
        self._dials.clear()
        return message

    async def run(
        self,
        wanted: Callable[[], bool],
        forwards: Callable[[], Iterable[ForwardBytes]],
        tell: Callable[[Message], None],
        beat: Ticker,
    ) -> None:
        """Tell for ever, whenever anybody wants it and hears it; until then it is kept."""
        loop = asyncio.get_running_loop()
        while True:
            if not wanted():
                await beat.next(BEAT_SECONDS * BEATS)
                continue
            for _ in range(BEATS):
                due = loop.time() + BEAT_SECONDS
                await asyncio.sleep(BEAT_SECONDS)
                self._lag.observe(loop.time() - due)
            for index, forward in enumerate(tuple(forwards())):
                self.flowed(forward)
                if index % SLICE == SLICE - 1:
                    await asyncio.sleep(0)
            if wanted():
                tell(self.take())

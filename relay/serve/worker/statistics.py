"""Statistics of one worker: counters that it reports to the supervisor once a second, and throughput of forwards.

Nothing here is on the path of a byte: the bytes are read from the open forwards, a bounded number per turn of the loop.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from relay.core.histogram import Histogram
from relay.serve.ipc import Message
from relay.serve.ticker import Ticker

LAG_SECONDS = 0.1  # how often the loop's lag is measured
LAGS_PER_REPORT = 10
SLICE = 256  # forwards read per turn of the loop
MAX_ZONES = 64  # told apart in one message
MIN_SECONDS = 0.5  # between two measurements of throughput: a rate over less is chance


@dataclass(slots=True)
class ThroughputMeter:
    """The throughput of one forward, measured about once a second. Times are the loop's, in seconds."""

    measured_at: float
    sent: int = 0
    received: int = 0
    sent_rate: int = 0  # bytes a second
    received_rate: int = 0
    last_activity: float = 0.0  # when bytes were last seen to flow, or the beginning

    def __post_init__(self) -> None:
        self.last_activity = self.measured_at

    def measure(self, now: float, sent: int, received: int) -> None:
        """Take the totals of this moment."""
        if (sent, received) != (self.sent, self.received):
            self.last_activity = now
        passed = now - self.measured_at
        if passed < MIN_SECONDS:
            return
        self.sent_rate = round((sent - self.sent) / passed)
        self.received_rate = round((received - self.received) / passed)
        self.measured_at, self.sent, self.received = now, sent, received

    def idle(self, now: float) -> float:
        """Seconds since bytes were last seen to flow, or since the beginning."""
        return max(0.0, now - self.last_activity)


class ByteCounter(Protocol):
    """A forward."""

    def take_delta(self) -> tuple[int, int]:
        """Bytes to and from the target since the last call."""


class WorkerStatistics:
    """The growth of one worker's counters since its last report."""

    def __init__(self) -> None:
        self._sent = 0
        self._received = 0
        self._denied: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._dials: dict[tuple[str, str], Histogram] = {}
        self._lag = Histogram()

    def denied(self, reason: str) -> None:
        """Count a denied forward."""
        self._denied[reason] += 1

    def refused(self, kind: str) -> None:
        """Count a refused request that is not direct-tcpip."""
        self._refused[kind] += 1

    @contextmanager
    def dialling(self, zone: str) -> Iterator[None]:
        """Measure a dial until it connects or fails; a cancelled one does not count."""
        began = time.monotonic()
        try:
            yield
        except Exception:
            self.dialled(zone, "failed", time.monotonic() - began)
            raise
        self.dialled(zone, "connected", time.monotonic() - began)

    def dialled(self, zone: str, result: str, seconds: float) -> None:
        """Count a dial: `connected` or `failed`."""
        key = zone, result
        if key not in self._dials and len(self._dials) >= MAX_ZONES:
            key = "", result
        self._dials.setdefault(key, Histogram()).observe(seconds)

    def count_bytes(self, forward: ByteCounter) -> None:
        """Count the bytes of a forward since the last time; also at its end."""
        sent, received = forward.take_delta()
        self._sent += sent
        self._received += received

    def take(self) -> Message:
        """The message `figures`, and begin anew."""
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
        is_wanted: Callable[[], bool],
        forwards: Callable[[], Iterable[ByteCounter]],
        send: Callable[[Message], None],
        ticker: Ticker,
    ) -> None:
        """Report once a second while reports are wanted; until then the counters grow."""
        loop = asyncio.get_running_loop()
        while True:
            if not is_wanted():
                await ticker.next(LAG_SECONDS * LAGS_PER_REPORT)
                continue
            for _ in range(LAGS_PER_REPORT):
                due = loop.time() + LAG_SECONDS
                await asyncio.sleep(LAG_SECONDS)
                self._lag.observe(loop.time() - due)
            for index, forward in enumerate(tuple(forwards())):
                self.count_bytes(forward)
                if index % SLICE == SLICE - 1:
                    await asyncio.sleep(0)
            if is_wanted():
                send(self.take())

"""How are measured times spread? Counts per bucket, in the form in which Prometheus adds and compares them."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

# Upper bounds in seconds, the same for all: half a millisecond is noise, ten seconds are the time-out of a dial.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Histogram:
    """Times that were measured: how many fell into each bucket, and their sum in seconds."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one measured time; one below zero (a clock was set) counts as none."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += max(seconds, 0.0)

    def take(self) -> list[object]:
        """What was counted since the last `take`, for `add` elsewhere; all begins anew."""
        taken: list[object] = [self.counts, round(self.total, 6)]
        self.counts, self.total = [0] * (len(BOUNDS) + 1), 0.0
        return taken

    def add(self, taken: object) -> None:
        """Add what another one has taken; anything of another shape (another version's buckets) is passed over."""
        if not isinstance(taken, list) or len(taken) != 2:
            return
        counts, total = taken
        if not isinstance(counts, list) or len(counts) != len(self.counts) or not isinstance(total, int | float):
            return
        if all(type(count) is int and count >= 0 for count in counts) and 0 <= total < 1e12:
            self.counts = [mine + other for mine, other in zip(self.counts, counts, strict=True)]
            self.total += total

    def cumulative(self) -> Sequence[int]:
        """How many were at most each of BOUNDS, and at last how many there are."""
        return tuple(accumulate(self.counts))

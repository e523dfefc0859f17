"""Histogram of durations: counts per bucket, in the form that Prometheus adds and compares."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

# Upper bounds in seconds, the same for all histograms: below 1 ms is noise, 10 s is the time limit of a dial.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Histogram:
    """Measured durations: the number in each bucket, and their sum in seconds."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration; a negative one (the clock was set back) adds nothing to the sum."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += max(seconds, 0.0)

    def take(self) -> list[object]:
        """The counts since the last `take`, for `add` in another process; the histogram is empty then."""
        taken: list[object] = [self.counts, round(self.total, 6)]
        self.counts, self.total = [0] * (len(BOUNDS) + 1), 0.0
        return taken

    def add(self, taken: object) -> None:
        """Add the result of another histogram's `take`; a malformed one, or other buckets, are ignored."""
        if not isinstance(taken, list) or len(taken) != 2:
            return
        counts, total = taken
        if not isinstance(counts, list) or len(counts) != len(self.counts) or not isinstance(total, int | float):
            return
        if all(type(count) is int and count >= 0 for count in counts) and 0 <= total < 1e12:
            self.counts = [mine + other for mine, other in zip(self.counts, counts, strict=True)]
            self.total += total

    def cumulative(self) -> Sequence[int]:
        """The number of durations up to each of BOUNDS, and last the number of all."""
        return tuple(accumulate(self.counts))

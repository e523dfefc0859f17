"""Token bucket for rate limits; the clock is an argument."""

from dataclasses import dataclass


@dataclass(slots=True)
class TokenBucket:
    """Fills with `rate` tokens a second up to `burst`. Taking more than the level leaves a debt and is never refused.

    The caller waits as long as `wait` says before it takes (or afterwards, where the amount is known only then), so
    that in the long run no more than `rate` a second are taken.
    """

    rate: float
    burst: float
    level: float = -1.0
    at: float = 0.0
    filled: bool = False  # a new bucket is full when it is first used

    def wait(self, now: float, amount: float = 1.0) -> float:
        """Seconds until the level is `amount`, or `burst` if that is less; 0 if it is now."""
        self._fill(now)
        missing = min(amount, self.burst) - self.level
        return max(missing / self.rate, 0.0) if self.rate > 0 else (0.0 if missing <= 0 else float("inf"))

    def take(self, now: float, amount: float = 1.0) -> None:
        """Take `amount`, even if the level is lower."""
        self._fill(now)
        self.level -= amount

    def change(self, now: float, rate: float, burst: float) -> None:
        """Use another rate from now on; the level stays, up to the new `burst`."""
        if (rate, burst) != (self.rate, self.burst):
            self._fill(now)
            self.rate, self.burst, self.level = rate, burst, min(self.level, burst)

    def _fill(self, now: float) -> None:
        if not self.filled:
            self.filled, self.level = True, self.burst
        else:
            self.level = min(self.burst, self.level + max(now - self.at, 0.0) * self.rate)
        self.at = now

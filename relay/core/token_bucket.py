"""How much of something is there now, when it flows in steadily? A token bucket; the clock is an argument."""

from dataclasses import dataclass


@dataclass(slots=True)
class TokenBucket:
    """Fills with `rate` units a second up to `burst`. Taking more than there is puts it in debt, never refuses.

    Who takes must ask `wait` before (or after, where the amount is known only then): in the long run no more than
    `rate` a second goes out.
    """

    rate: float
    burst: float
    level: float = -1.0
    at: float = 0.0
    filled: bool = False  # a new bucket is full, whenever it is first asked

    def wait(self, now: float, amount: float = 1.0) -> float:
        """Seconds until `amount` is there, or all of `burst`; 0: it is there now."""
        self._flow(now)
        missing = min(amount, self.burst) - self.level
        return max(missing / self.rate, 0.0) if self.rate > 0 else (0.0 if missing <= 0 else float("inf"))

    def take(self, now: float, amount: float = 1.0) -> None:
        """Take `amount` out, whether or not it is there."""
        self._flow(now)
        self.level -= amount

    def change(self, now: float, rate: float, burst: float) -> None:
        """Another rate from now on; what is there stays, up to the new `burst`."""
        if (rate, burst) != (self.rate, self.burst):
            self._flow(now)
            self.rate, self.burst, self.level = rate, burst, min(self.level, burst)

    def _flow(self, now: float) -> None:
        if not self.filled:
            self.filled, self.level = True, self.burst
        else:
            self.level = min(self.burst, self.level + max(now - self.at, 0.0) * self.rate)
        self.at = now

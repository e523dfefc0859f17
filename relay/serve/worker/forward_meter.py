"""How fast does a forward flow now, and for how long has it been idle?

It is looked at about once a second, beside the hot path: what is told is as old as that at most.
"""

from dataclasses import dataclass

LEAST_SECONDS = 0.5  # between two looks that count: a rate over less is chance


@dataclass(slots=True)
class ForwardMeter:
    """What the looks at one forward's counters have shown. Times are the loop's, in seconds."""

    at: float  # of the last look that counted
    sent: int = 0
    received: int = 0
    sent_rate: int = 0  # bytes a second
    received_rate: int = 0
    moved: float = 0.0  # when it was last seen to flow, or began

    def __post_init__(self) -> None:
        self.moved = self.at

    def look(self, now: float, sent: int, received: int) -> None:
        """Take the counters of this moment."""
        if (sent, received) != (self.sent, self.received):
            self.moved = now
        passed = now - self.at
        if passed < LEAST_SECONDS:
            return
        self.sent_rate = round((sent - self.sent) / passed)
        self.received_rate = round((received - self.received) / passed)
        self.at, self.sent, self.received = now, sent, received

    def idle(self, now: float) -> float:
        """Seconds since it was last seen to flow, or since it began."""
        return max(0.0, now - self.moved)

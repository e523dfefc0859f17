"""This worker's share of the relay-wide limits.

The supervisor's own counts are exact; these three are shared out instead, because a question to the supervisor for each
dial or each byte would cost more than they do: dials and memory in equal parts, a person's rate by where its forwards
are. Workers that drain after an upgrade keep their parts, so meanwhile the sums may be exceeded by theirs.
"""

import os
from collections.abc import Callable

from relay.core.settings import Settings
from relay.serve.ipc import Message
from relay.serve.memory_limit import within
from relay.serve.ticker import Ticker
from relay.serve.worker.forward.dial_semaphore import DialSemaphore
from relay.serve.worker.forward.rate_limiter import RateLimiters
from relay.serve.worker.ssh.window_budget import WindowBudget

SECONDS = 1.0  # between two messages `use`


class LimitShare:
    """The dials, the windows' memory and the rates of this worker."""

    def __init__(self) -> None:
        self.dials = DialSemaphore(1)
        self.windows = WindowBudget(0)
        self.rates = RateLimiters()
        self.change(Settings())

    def change(self, settings: Settings) -> None:
        """Apply settings; what is in use stays."""
        limits, workers = settings.limits, settings.processes(os.cpu_count())
        self.dials.limit = max(limits.dials // workers, 2)
        self.windows.most = within(limits.buffers) // workers
        self.rates.change(limits.rate_per_person)

    async def report(self, send: Callable[[Message], None], ticker: Ticker) -> None:
        """Send what is in use once a second, if it has changed; for ever."""
        before: Message = {}
        while True:
            await ticker.next(SECONDS, busy=any(before.get(part) for part in ("dials", "buffers", "rates")))
            rates = self.rates.rates(SECONDS)
            message: Message = {
                "t": "use",
                "dials": self.dials.in_progress,
                "buffers": self.windows.lent,
                "rates": rates,
            }
            if message != before:
                before = message
                send(message)

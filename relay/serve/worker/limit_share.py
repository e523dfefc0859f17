"""Which part of what the whole relay may use at once is this worker's?

The supervisor's own counts are exact; these three are shared out instead, because asking it for each dial or each
byte would cost more than they do: dials and memory in equal parts, a person's rate by where its forwards are. Workers
that drain after an upgrade keep their parts, so meanwhile the sums may be exceeded by theirs.
"""

import os
from collections.abc import Callable
from typing import Any

from relay.core.settings import Settings
from relay.serve.memory_limit import within
from relay.serve.ticker import Ticker
from relay.serve.worker.forward.dial_semaphore import DialSemaphore
from relay.serve.worker.forward.rate_limiter import RateLimiters
from relay.serve.worker.ssh.window_budget import WindowBudget

SECONDS = 1.0  # between two messages `use`


class LimitShare:
    """This worker's part."""

    def __init__(self) -> None:
        self.dials = DialSemaphore(1)
        self.windows = WindowBudget(0)
        self.purses = RateLimiters()
        self.change(Settings())

    def change(self, settings: Settings) -> None:
        """Settings (anew): what is in use stays."""
        limits, count = settings.limits, settings.processes(os.cpu_count())
        self.dials.most = max(limits.dials // count, 2)
        self.windows.most = within(limits.buffers) // count
        self.purses.change(limits.rate_per_person)

    async def tell(self, send: Callable[[dict[str, Any]], None], beat: Ticker) -> None:
        """Send what is in use once a second, when it is other than before; for ever."""
        before: dict[str, Any] = {}
        while True:
            await beat.next(SECONDS, busy=any(before.get(part) for part in ("dials", "buffers", "rates")))
            rates = self.purses.rates(SECONDS)
            message = {"t": "use", "dials": self.dials.under_way, "buffers": self.windows.lent, "rates": rates}
            if message != before:
                before = message
                send(message)

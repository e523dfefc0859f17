"""What had a worker to say that nobody heard? Rows of one that ended while no supervisor was there, as at a reboot.

The worker leaves them beside its lock when it ends in order; the next supervisor records them, each once by its id,
before it closes what is still open in their name.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from relay import atomic_file
from relay.core.audit.event import Event

Answer = Callable[[str], None]  # "" when the row is durable

SUFFIX = ".rows"
MOST_BYTES = 256 << 20  # twice what a worker keeps at most


def leave(path: Path, events: Sequence[Any]) -> None:
    """Write the events, as they go over the link. Raises OSError; then the next supervisor knows only what is open."""
    atomic_file.replace(path, "".join(json.dumps(event) + "\n" for event in events).encode())


def take(run: Path, record: Callable[[Event, Answer | None], None], say: Callable[[str], None]) -> None:
    """Have recorded what workers have left in `run`; each file goes when all of it is durable."""
    for path in sorted(run.glob(f"*{SUFFIX}")):
        try:
            with path.open("rb") as file:
                lines = file.read(MOST_BYTES).splitlines()
            events = [
                Event(str(number), int(at), str(name), fields) for number, at, name, fields in map(json.loads, lines)
            ]
        except (OSError, ValueError, TypeError) as error:
            say(f"rows that a worker left in {path.name} cannot be read: {error}")
            continue
        for event in events[:-1]:
            record(event, None)
        if events:
            record(events[-1], _gone_when_durable(path))
        else:
            path.unlink(missing_ok=True)


def _gone_when_durable(path: Path) -> Answer:
    def answer(problem: str) -> None:
        if not problem:
            path.unlink(missing_ok=True)

    return answer

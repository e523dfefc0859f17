"""A spool for audit events that a worker could not deliver before it exited; the next supervisor replays them.

The worker writes it beside its lock when it ends in order, as at a reboot. The supervisor records each event once, by
its id, before it closes what that worker left open.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from relay import atomic_file
from relay.core.audit.event import Event

Answer = Callable[[str], None]  # "" when the row is durable

SUFFIX = ".rows"
MAX_BYTES = 256 << 20  # twice what a worker keeps at most


def write(path: Path, events: Sequence[Any]) -> None:
    """Write the events in the form of the link. Raises OSError; then forwards are closed without their counters."""
    atomic_file.replace(path, "".join(json.dumps(event) + "\n" for event in events).encode())


def replay(run: Path, record: Callable[[Event, Answer | None], None], warn: Callable[[str], None]) -> None:
    """Record the events of all spools in `run`; each file is removed when its last event is durable."""
    for path in sorted(run.glob(f"*{SUFFIX}")):
        try:
            with path.open("rb") as file:
                lines = file.read(MAX_BYTES).splitlines()
            events = [
                Event(str(number), int(at), str(name), fields) for number, at, name, fields in map(json.loads, lines)
            ]
        except (OSError, ValueError, TypeError) as error:
            warn(f"rows that a worker left in {path.name} cannot be read: {error}")
            continue
        for event in events[:-1]:
            record(event, None)
        if events:
            record(events[-1], _remove_when_durable(path))
        else:
            path.unlink(missing_ok=True)


def _remove_when_durable(path: Path) -> Answer:
    def answer(problem: str) -> None:
        if not problem:
            path.unlink(missing_ok=True)

    return answer

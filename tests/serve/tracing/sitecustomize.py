"""Record which functions of the relay a process enters. Python imports this at start where PYTHONPATH names its folder.

SIGUSR1 begins a recording, SIGUSR2 writes it to RELAY_TRACE/PID.NUMBER.json and ends it. Threads are covered.
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path
from types import CodeType, FrameType
from typing import Any


class Recorder:
    """The functions that are entered while a recording runs."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._entered: set[CodeType] | None = None
        self._number = 0

    def profile(self, frame: FrameType, event: str, argument: Any) -> None:
        """Called by Python for each call."""
        if self._entered is not None and event == "call":
            self._entered.add(frame.f_code)

    def begin(self, number: int, frame: FrameType | None) -> None:
        """SIGUSR1."""
        self._number += 1
        self._entered = set()
        self._say(f"begun{self._number}", None)

    def end(self, number: int, frame: FrameType | None) -> None:
        """SIGUSR2."""
        entered, self._entered = self._entered or set(), None
        self._say(str(self._number), sorted({(code.co_filename, code.co_qualname) for code in entered}))

    def _say(self, name: str, what: object) -> None:
        part = self._directory / f"{os.getpid()}.{name}.part"
        part.write_text(json.dumps(what))
        part.rename(part.with_suffix(".json"))


recorder = Recorder(Path(os.environ["RELAY_TRACE"]))
signal.signal(signal.SIGUSR1, recorder.begin)
signal.signal(signal.SIGUSR2, recorder.end)
threading.setprofile(recorder.profile)
sys.setprofile(recorder.profile)

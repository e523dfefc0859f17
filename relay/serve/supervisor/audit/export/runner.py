"""Does the export run, and how far is it? The supervisor's care of that one process (`export`).

It is started when the setting says so, started again when it dies, and ends when its stdin does: with the
supervisor, however that ends. Nothing here waits for it.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relay.core.escape import escape
from relay.core.settings import Settings
from relay.serve.ticker import run_ticker

LOOK_SECONDS = 0.5
BACKOFF = (1.0, 60.0)  # before one that died is started again: first, and most
HEALTHY_SECONDS = 60.0  # one that lived so long resets it
PATIENCE_SECONDS = 5.0  # for one that is to end because the setting changed
SHOUT_SECONDS = 600.0  # what is wrong is said again so often


@dataclass(frozen=True, slots=True)
class ExportState:
    """How it goes."""

    where: str = ""  # a path or `stdout`; "" when nothing is exported
    sent: int = 0  # the row that was sent last
    behind: int = 0  # rows that are still to be sent
    problem: str = ""  # why it does not go on; "" when it does


class ExportRunner:
    """Keeps the export running as the settings of the moment say."""

    def __init__(self, directory: Path, settings: Callable[[], Settings], say: Callable[[str], None]) -> None:
        self._directory = directory
        self._settings = settings
        self._say = say
        self._loop = asyncio.get_running_loop()
        self._process: subprocess.Popen[bytes] | None = None
        self._notes = -1  # where it tells how it goes
        self._heard = b""
        self._wish: tuple[str, int, int] = ("", 0, 0)
        self._began = 0.0
        self._next = 0.0
        self._delay = BACKOFF[0]
        self._said: tuple[str, float] = ("", 0.0)
        self.state = ExportState()

    async def run(self) -> None:
        """For ever."""
        while True:
            settings = self._settings()
            wish = settings.audit_export, settings.audit_export_size, settings.audit_export_files
            if wish != self._wish:
                await self._end()
                self._wish, self._next, self._delay, self.state = wish, 0.0, BACKOFF[0], ExportState(wish[0])
            if self._process is not None:
                self._listen()
                if self._process.poll() is not None:
                    self._died(self._process.returncode)
            if self._process is None and wish[0] and self._loop.time() >= self._next:
                self._start()
            await run_ticker(LOOK_SECONDS if wish[0] else 2 * LOOK_SECONDS)

    def _start(self) -> None:
        where, size, kept = self._wish
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own module, with our own words
                [
                    *(sys.executable, "-P", "-m", "relay.serve.supervisor.audit.export.exporter"),
                    *(str(self._directory), where, str(size), str(kept), str(writing)),
                ],
                stdin=subprocess.PIPE,
                pass_fds=[writing],
            )
        except OSError as error:
            os.close(reading)
            self._failed(f"it cannot be started: {error.strerror}")
            return
        finally:
            os.close(writing)
        self._notes, self._heard, self._began = reading, b"", self._loop.time()

    def _listen(self) -> None:
        try:
            self._heard += os.read(self._notes, 1 << 16)
        except BlockingIOError:
            return
        *lines, self._heard = self._heard.split(b"\n")
        for line in lines:
            try:
                seq, head, problem = json.loads(line)
                self._tell(
                    ExportState(self._wish[0], int(seq), max(int(head) - int(seq), 0), escape(str(problem), 300))
                )
            except (ValueError, TypeError):
                continue  # torn, as the pipe was full

    def _tell(self, state: ExportState) -> None:
        self.state = state
        said, at = self._said
        if state.problem and (state.problem != said or self._loop.time() - at > SHOUT_SECONDS):
            waiting = f"; {state.behind} rows wait for it, forwards do not" if state.behind else ""
            self._say(f"export to {self._wish[0]}: {state.problem}{waiting}")
            self._said = state.problem, self._loop.time()
        elif not state.problem and said:
            self._say(f"export to {self._wish[0]}: it goes on")
            self._said = "", 0.0

    def _died(self, status: int) -> None:
        self._forget()
        if self._loop.time() - self._began > HEALTHY_SECONDS:
            self._delay = BACKOFF[0]
        self._failed(f"its process ended with status {status}")

    def _failed(self, problem: str) -> None:
        self._next = self._loop.time() + self._delay
        self._delay = min(self._delay * 2, BACKOFF[1])
        self._tell(ExportState(self._wish[0], self.state.sent, self.state.behind, problem))

    async def _end(self) -> None:
        """The setting has changed: what is still to be sent has a moment."""
        if (process := self._process) is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            await asyncio.to_thread(process.wait, PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)
        self._forget()

    def _forget(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
        if self._notes >= 0:
            os.close(self._notes)
        self._process, self._notes = None, -1

    def status(self) -> dict[str, Any]:
        """For `relayctl doctor`."""
        state = self.state
        return {"where": state.where, "sent": state.sent, "behind": state.behind, "problem": state.problem}

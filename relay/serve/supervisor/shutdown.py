"""Shutdown of the supervisor: for good, or before a restart by systemd.

For good (SIGINT, or SIGTERM without systemd): the workers end too, and every open forward gets its closing row.
Before a restart (SIGTERM under systemd): the workers keep their connections, wait for the supervisor that systemd
starts next, and join it. systemd holds the listening sockets meanwhile (relay.socket), so no client is refused.
"""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

from relay import __version__
from relay.core.settings import Limits
from relay.serve.supervisor.admission.acceptor import Acceptor
from relay.serve.supervisor.audit.audit_log import AuditLog
from relay.serve.supervisor.control_server import ControlServer
from relay.serve.supervisor.open_forwards import OpenForwards
from relay.serve.supervisor.sd_notify import SystemdNotifier
from relay.serve.supervisor.worker_pool import WorkerPool

SUCCESSOR_SECONDS = 60.0  # within which workers expect the next supervisor, and new forwards wait for it
ANSWER_SECONDS = 5.0  # for questions of the control socket that are being answered when the database is to be closed
GRACE_SECONDS = 8.0  # beyond the time that forwards are given: for workers to write their last rows


class Shutdown:
    """The end of one supervisor."""

    def __init__(
        self,
        run: Path,
        *,
        audit_log: AuditLog,
        workers: WorkerPool,
        acceptor: Acceptor,
        forwards: OpenForwards,
        limits: Callable[[], Limits],
        systemd: SystemdNotifier,
        control: ControlServer,
    ) -> None:
        """`run` is the directory of the sockets; `limits` are those in force."""
        self._run = run
        self._audit_log = audit_log
        self._workers = workers
        self._acceptor = acceptor
        self._forwards = forwards
        self._limits = limits
        self._systemd = systemd
        self._control = control
        self._at_once = asyncio.Event()  # a second signal: open forwards are not waited for
        self.requested = asyncio.Event()
        self.workers_stay = False

    def request(self, number: int) -> None:
        """Handle SIGTERM or SIGINT; a second one ends open forwards at once."""
        if self.requested.is_set():
            self._at_once.set()
            return
        self.workers_stay = number == signal.SIGTERM and self._systemd.by_systemd
        if not self.workers_stay and self._forwards.slots.held:
            seconds = self._limits().stop
            again = "; Ctrl-C again ends them now" if number == signal.SIGINT else ""
            self._audit_log.say(f"stopping: {len(self._forwards.slots.held)} forwards have {seconds:g} s to end{again}")
        self.requested.set()

    async def end(self) -> None:
        """Close everything, in an order in which no client and no row is lost."""
        self._systemd.stopping()
        self._acceptor.stop()
        self._workers.stop()
        if self.workers_stay:
            self._forwards.session_limits.save()
            for worker in self._workers.members.values():
                worker.link.send({"t": "handover", "seconds": SUCCESSOR_SECONDS})
        else:
            await self._end_workers()
        await self._control.finish(ANSWER_SECONDS)
        self._audit_log.note("server.stopped", {"version": __version__, "pid": os.getpid()})
        await self._audit_log.close()  # before the control socket: a command that finds it closed writes its row itself
        if self.workers_stay:
            await asyncio.sleep(0)  # the last acknowledgements are queued in the loop
            await self._workers.flush()
        self._control.close()
        if not self.workers_stay:
            for name in ("workers.sock", "control.sock"):
                (self._run / name).unlink(missing_ok=True)
        self._workers.close()
        self._acceptor.close()
        self._audit_log.say("stopped")
        self._audit_log.journal.flush()

    async def _end_workers(self) -> None:
        """Give open forwards their time, unless a second signal comes; then workers close them with their rows."""
        for seconds in (self._limits().stop, 0.0):
            for worker in tuple(self._workers.members.values()):
                worker.link.send({"t": "stop", "seconds": seconds})
            waiting = [asyncio.ensure_future(event.wait()) for event in (self._workers.empty, self._at_once)]
            await asyncio.wait(waiting, timeout=seconds + GRACE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()
            self._at_once.clear()
            if self._workers.empty.is_set():
                return
        self._workers.kill()

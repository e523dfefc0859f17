"""How long does this supervisor serve, and who comes after it? The end of all, a restart, or a successor beside it.

Three ways to end. With no successor in sight (SIGTERM, Ctrl-C) the workers end too, with closing rows. Under systemd
(SIGTERM) the workers live on and wait for the supervisor that it starts next. And another supervisor may take over
while this one serves (see succession).
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from relay import __version__
from relay.core.audit.event import Value
from relay.core.escape import escape
from relay.errors import StoreUnavailable
from relay.serve.supervisor import listeners, takeover
from relay.serve.supervisor.admission.acceptor import Acceptor
from relay.serve.supervisor.audit.audit_log import AuditLog
from relay.serve.supervisor.control_server import ControlConversation, ControlServer, Talk
from relay.serve.supervisor.open_forwards import OpenForwards
from relay.serve.supervisor.policy.rollout import Rollout
from relay.serve.supervisor.sd_notify import SystemdNotifier
from relay.serve.supervisor.worker_pool import WorkerPool
from relay.site.locate import Site

HANDOVER_SECONDS = 60.0  # within which workers expect the next supervisor, and new forwards wait for it
GO_ON_SECONDS = 30.0  # for a successor that failed to be gone with the lock of the database
ASKED_SECONDS = 5.0  # for questions that are being answered when the database is to be closed
GRACE_SECONDS = 8.0  # beyond the time that forwards are given: for workers to write their last rows


class Shutdown:
    """The time of one supervisor."""

    def __init__(
        self,
        *,
        site: Site,
        record: AuditLog,
        crew: WorkerPool,
        entrance: Acceptor,
        forwards: OpenForwards,
        law: Rollout,
        pulse: SystemdNotifier,
        control: ControlServer,
        begin: Callable[[], Awaitable[None]],
    ) -> None:
        """`begin` takes the audit database and the sockets in `run`; raises StoreUnavailable."""
        self.site = os.path.realpath(site.path)
        self._run = site.state / "run"
        self._record = record
        self._crew = crew
        self._entrance = entrance
        self._forwards = forwards
        self._law = law
        self._pulse = pulse
        self._control = control
        self._begin = begin
        self._loop = asyncio.get_running_loop()
        self._hurry = asyncio.Event()  # somebody has no time for open forwards
        self._succeeding = False  # another supervisor is about to take over
        self._handed_over = False  # it has
        self._put_off = 0  # a signal to end that came meanwhile
        self._asked = 0  # questions that are being answered
        self._quiet = asyncio.Event()  # there are none
        self._quiet.set()
        self._at_work = asyncio.Event()  # the database is open, or will be
        self._at_work.set()
        self.over = asyncio.Event()
        self.linger = False  # the workers live on
        self.own_sockets = False  # else they are systemd's, and it holds them whatever becomes of us

    # ---- being told

    def stop(self, number: int) -> None:
        """A signal to end. The second one is in a hurry."""
        if self.over.is_set():
            self._hurry.set()
            return
        if not self._at_work.is_set():
            self._put_off = (
                number  # it ends in a moment, as another one serves; if that fails, it is to end all the same
            )
            return
        self.linger = number == signal.SIGTERM and self._pulse.by_systemd
        if not self.linger and self._forwards.slots.held:
            seconds = self._law.settings.limits.stop
            again = "; Ctrl-C again ends them now" if number == signal.SIGINT else ""
            self._record.say(f"stopping: {len(self._forwards.slots.held)} forwards have {seconds:g} s to end{again}")
        self.over.set()

    @contextlib.asynccontextmanager
    async def question(self) -> AsyncIterator[None]:
        """Around the answer to a question: its rows are written while there is a database.

        While a successor takes over it waits; and is never answered here when that one serves. Then the caller, who
        sees that nobody answered, asks it (control.call).
        """
        await self._at_work.wait()
        self._asked += 1
        self._quiet.clear()
        try:
            yield
        finally:
            self._asked -= 1
            if not self._asked:
                self._quiet.set()

    def talk(self, answer: Talk) -> Talk:
        """The same around a longer talk."""

        async def during(question: dict[str, Any], conversation: ControlConversation) -> None:
            async with self.question():
                await answer(question, conversation)

        return during

    # ---- the end

    async def end(self) -> None:
        """End, one way or the other."""
        self._pulse.stopping()
        self._entrance.stop()
        self._crew.stop()
        if self.linger:
            if not self._handed_over:
                await self._let_go("")
            self._control.close()
        else:
            await self._end_workers()
            self._control.close()
            if self._record.is_ours:  # else the sockets are those of the relay that was to be taken over, and goes on
                self._note("server.stopped", "")
                await self._record.close()  # before the sockets go: who finds nobody there writes into it itself
                for name in ("workers.sock", "control.sock"):
                    (self._run / name).unlink(missing_ok=True)
        self._crew.close()
        self._entrance.close()
        self._record.say("handed over" if self._handed_over else "stopped")
        self._record.journal.flush()

    async def _end_workers(self) -> None:
        """Open forwards have their time, or until somebody is in a hurry; then they are closed with their rows."""
        for patience in (self._law.settings.limits.stop, 0.0):
            for member in tuple(self._crew.members.values()):
                member.link.send({"t": "stop", "seconds": patience})
            waiting = [asyncio.ensure_future(event.wait()) for event in (self._crew.empty, self._hurry)]
            await asyncio.wait(waiting, timeout=patience + GRACE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            for one in waiting:
                one.cancel()
            self._hurry.clear()
            if self._crew.empty.is_set():
                return
        self._crew.kill()

    # ---- the next supervisor

    async def hand_over(self, question: dict[str, Any], talk: ControlConversation) -> None:
        """Another supervisor wants to take over."""
        refusal = self._why_not(question.get("site"))
        if refusal:
            talk.tell({"ok": False, "problem": refusal[0], "hint": refusal[1]})
            return
        successor = f"process {question.get('pid')} of version {escape(str(question.get('version')), 40)}"
        answer = {"ok": True, "version": __version__, "pid": os.getpid(), "own": self.own_sockets}
        descriptors = [*(sock.fileno() for sock in self._entrance.sockets), sys.stderr.fileno()]
        law = self._law.edition

        async def let_go() -> bool:
            self._record.say(f"{successor} takes over")
            await self._let_go(f"{successor} takes over")
            return self._law.edition != law

        self._succeeding = True
        try:
            self._handed_over = await takeover.hand_over(talk, answer, descriptors, let_go, self._go_on)
        finally:
            self._succeeding = False
        if self._handed_over:
            self.linger = True
            self.over.set()
        else:
            self._record.say(f"{successor} did not take over; this one goes on")
            if self._put_off:
                self.stop(self._put_off)

    def _why_not(self, site: object) -> tuple[str, str] | None:
        if site not in (None, self.site):  # a copy of a site still names the state of the one it was copied from
            return f"the relay that runs here serves {self.site}", "give the other site a `state:` of its own"
        if self._pulse.by_systemd:
            return "systemd runs this relay, and would start it again", "systemctl restart relay.service"
        if os.getpid() == 1:
            return "the relay is process 1, whose end is the end of its container", "start the container anew"
        if self._succeeding or self.over.is_set():
            return "this relay is handing over or stopping already", "wait a moment"
        return None

    async def _let_go(self, detail: str) -> None:
        """Leave door and database to the next supervisor, in an order in which no client and no row is lost."""
        self._at_work.clear()
        self._entrance.stop()
        self._forwards.governor.keep()
        for member in self._crew.members.values():
            member.link.send({"t": "handover", "seconds": HANDOVER_SECONDS})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ASKED_SECONDS):
                await self._quiet.wait()
        self._note("server.stopped", detail)
        await self._record.close()
        await asyncio.sleep(0)  # what became durable last is told to the workers that asked
        await self._crew.flush()

    async def _go_on(self) -> bool:
        """The successor failed: everything as before; False when it has the database after all."""
        deadline = self._loop.time() + GO_ON_SECONDS
        while True:
            try:
                await self._begin()
                break
            except StoreUnavailable as error:
                another = isinstance(error.__cause__, BlockingIOError) and f"process {os.getpid()}" not in error.what
                if another and self._loop.time() > deadline:
                    self._record.say(f"the successor has the audit database, so this one ends: {error.what}")
                    return False
            await asyncio.sleep(0.2)
        self._at_work.set()
        self._crew.part()  # they come back at once, and say again what nobody has recorded
        self._entrance.resume()
        where = " ".join(listeners.where(sock) for sock in self._entrance.sockets)
        self._note("server.started", f"{where}, again: its successor did not serve")
        return True

    def _note(self, name: str, detail: str) -> None:
        fields: dict[str, Value] = {"version": __version__, "pid": os.getpid()}
        self._record.note(name, fields | {"detail": detail} if detail else fields)

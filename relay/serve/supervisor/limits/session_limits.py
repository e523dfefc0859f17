"""Limits of authenticated persons and keys: connections, scans, shared rates, and how much of each limit is used.

Connections and forwards are counted exactly. What only workers can count (dials, memory, rates) is what they reported
last. Penalised sources and frozen keys are left in files for the next supervisor.
"""

import asyncio
import contextlib
import json
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from relay import atomic_file
from relay.core.audit.event import Event, Value
from relay.core.settings import Limits
from relay.serve.ipc import Message
from relay.serve.memory_limit import within
from relay.serve.supervisor.admission.acceptor import Acceptor
from relay.serve.supervisor.audit.audit_log import AuditLog
from relay.serve.supervisor.control_server import Answer
from relay.serve.supervisor.limits.scan_detector import ScanDetector
from relay.serve.supervisor.limits.session_slots import ForwardSlots, SessionCounts
from relay.serve.supervisor.worker_pool import WorkerHandle, WorkerPool
from relay.serve.ticker import run_ticker

PENALTIES_FILE = "memory.json"  # in STATE/run: penalised sources, written when the supervisor stops
FROZEN_FILE = "frozen.json"  # in STATE/run: frozen keys, written at each change, so that no crash unfreezes one
MAX_FILE = 16 << 20  # bytes read of either file
STALE_SECONDS = 3600.0  # older penalties are ignored
CHECK_SECONDS = 1.0  # between two checks for freezes that have ended and for rates to divide
ROW_SECONDS = 60.0  # between two rows about the same limit of the same person, key or target
MAX_REMEMBERED = 1000  # of those rows


class SessionLimits:
    """Counts, limits and freezes of authenticated persons."""

    def __init__(
        self,
        run: Path,
        workers: WorkerPool,
        audit: AuditLog,
        *,
        acceptor: Acceptor,
        slots: ForwardSlots,
        limits: Callable[[], Limits],
    ) -> None:
        """`run` is STATE/run; `limits` returns those in force."""
        self._loop = asyncio.get_running_loop()
        self._penalties_file = run / PENALTIES_FILE
        self._frozen_file = run / FROZEN_FILE
        self._workers = workers
        self._audit = audit
        self._acceptor = acceptor
        self._slots = slots
        self._limits = limits
        self._no_row_before: OrderedDict[str, float] = OrderedDict()  # reached limit -> loop time
        self.sessions = SessionCounts()
        self.scans = ScanDetector(audit, limits, self._frozen_changed)
        self.reached_count = 0  # how often a limit was reached since the start

    # ---- reports of workers

    def joined(self, worker: WorkerHandle) -> None:
        """Send a worker that has joined the frozen keys."""
        worker.link.send(self.scans.message())

    def lost(self, worker: WorkerHandle) -> None:
        """Forget the connections of a worker whose link broke; if it joins again, it reports them anew."""
        for connection in worker.connections:
            self.sessions.leave(connection)

    def have(self, message: Message) -> None:
        """Count a connection that a worker already had when it joined, even over the limit."""
        self.sessions.enter(message["c"], str(message["person"]), str(message["key"]), None)

    def proven(self, worker: WorkerHandle, message: Message) -> None:
        """Count a connection that has proven its key, or end it if its person or key has reached its limit."""
        person, key = str(message["person"]), str(message["key"])
        problem = self.sessions.enter(message["c"], person, key, self._limits())
        if problem:
            self.reached("connections", problem, {"person": person, "fingerprint": key})
            owner = problem.partition(" ")[0]
            text = f"you have as many connections open as one {owner} may; end one, or reuse one (ControlMaster)"
            worker.link.send({"t": "drop", "c": message["c"], "why": "too-many-connections", "text": text})

    def gone(self, connection: str) -> None:
        """Forget a connection that has ended."""
        self.sessions.leave(connection)

    def recorded(self, event: Event) -> None:
        """Count a denied forward towards a scan."""
        if event.name == "forward.denied":
            self.scans.denied(event)

    def reached(self, limit: str, problem: str, fields: Mapping[str, Value]) -> None:
        """Record that a limit was reached, once a minute for each; `problem` begins with person, key or target."""
        self.reached_count += 1
        now = self._loop.time()
        if self._no_row_before.get(problem, 0.0) > now:
            return
        self._no_row_before.pop(problem, None)
        self._no_row_before[problem] = now + ROW_SECONDS
        while len(self._no_row_before) > MAX_REMEMBERED:
            self._no_row_before.popitem(last=False)
        subject = {name: fields[name] for name in ("person", "fingerprint", "client") if fields.get(name)}
        owner = problem.partition(" ")[0].rstrip(":")
        self._audit.note("limit.reached", {"kind": limit, "reason": owner, "detail": problem, **subject})

    async def watch(self) -> None:
        """End freezes whose time is over, and divide rates among the workers, for ever."""
        while True:
            await run_ticker(CHECK_SECONDS)
            self.scans.lapse()
            self._divide_rates()

    def _divide_rates(self) -> None:
        """Tell each worker its part of every person's rate, by the number of forwards that it carries."""
        if not self._limits().rate_per_person:
            return
        carried: dict[str, Counter[str]] = {}
        for slot in self._slots.held.values():
            carried.setdefault(slot.person, Counter())[slot.worker] += 1
        for worker in self._workers.members.values():
            parts = {
                person: count[worker.name] / count.total()
                for person, count in carried.items()
                if 0 < count[worker.name] < count.total()  # without a message a worker uses the whole rate
            }
            if parts != worker.parts:
                worker.parts = parts
                worker.link.send({"t": "share", "parts": parts})

    def _frozen_changed(self) -> None:
        self._write_frozen()  # before the workers are told: no crash in between may forget what a worker enforces
        self._send_frozen()

    def _write_frozen(self) -> None:
        frozen = self.scans.shown()
        if frozen or self._frozen_file.exists():
            problem = _write(self._frozen_file, frozen)
            if problem:
                self._audit.say(f"{self._frozen_file}: {problem}; the next supervisor will not know the frozen keys")

    def _send_frozen(self) -> None:
        for worker in self._workers.members.values():
            worker.link.send(self.scans.message())

    # ---- questions of relayctl

    def answer(self, question: Mapping[str, Any]) -> Answer:
        """The answer to `bans`, `unban` or `limits`."""
        bans = self._acceptor.bans
        if question["do"] == "bans":
            return {"ok": True, "bans": bans.shown(), "watched": bans.watched(), "frozen": self.scans.shown()}
        if question["do"] == "limits":
            return {"ok": True, "limits": self.usage()}
        return self._unban(question)

    def _unban(self, question: Mapping[str, Any]) -> Answer:
        bans = self._acceptor.bans
        by = {key: value for key, value in question.get("by", {}).items() if key.startswith("by_") or key == "why"}
        keys = [name for row in self.scans.shown() for name in (row["person"], row["fingerprint"])]
        known = [*bans.sources(), *keys]
        if question.get("all"):
            return {"ok": True, "lifted": [*bans.lift("", by), *self.scans.lift("", by)], "missing": [], "known": []}
        lifted: list[str] = []
        missing = []
        for name in (str(name) for name in question.get("wanted", [])):
            lifted_now = [*bans.lift(name, by), *self.scans.lift(name, by)] if name else []
            lifted += lifted_now
            if not lifted_now:
                missing.append(name)
        return {"ok": True, "lifted": lifted, "missing": missing, "known": known[:1000]}

    def usage(self) -> list[dict[str, Any]]:
        """Each limit, how much of it is used, and by whom most."""
        limits, workers = self._limits(), self._workers.members.values()
        rows: list[tuple[str, float, float, str]] = list(self._acceptor.use())
        for kind, limit in (("person", limits.connections_per_person), ("key", limits.connections_per_key)):
            name, count = self.sessions.most(kind)
            rows.append((f"connections_per_{kind}", count, limit, name))
        name, count = self._slots.fullest_connection()
        rows.append(("forwards_per_connection", count, limits.forwards_per_connection, name))
        for kind, limit in (
            ("person", limits.forwards_per_person),
            ("key", limits.forwards_per_key),
            ("target", limits.forwards_per_target),
        ):
            name, count = self._slots.most(kind)
            rows.append((f"forwards_per_{kind}", count, limit, name))
        for kind, limit in (("dials", limits.dials), ("buffers", within(limits.buffers))):
            rows.append((kind, sum(int(worker.use.get(kind, 0)) for worker in workers), limit, ""))
        if limits.rate_per_person:
            rates: Counter[str] = Counter()
            for worker in workers:
                rates.update({person: int(rate) for person, rate in worker.use.get("rates", {}).items()})
            name = max(rates, key=rates.__getitem__, default="")
            rows.append(("rate_per_person", rates[name], limits.rate_per_person, name))
        return [{"limit": name, "used": used, "most": most, "by": by if used else ""} for name, used, most, by in rows]

    # ---- for the next supervisor

    def save(self) -> None:
        """Write penalised sources and frozen keys for the next supervisor; on a full disk it starts without them."""
        self._write_frozen()
        problem = _write(self._penalties_file, {"at": time.time(), "sources": self._acceptor.bans.memory()})
        if problem:
            self._audit.say(f"{self._penalties_file}: {problem}; the next supervisor will not know penalised sources")

    def load(self) -> None:
        """Read what the previous supervisor wrote: frozen keys, and penalised sources, once and unless too old."""
        frozen = self._read(self._frozen_file, "frozen keys are unfrozen")
        penalties = self._read(self._penalties_file, "penalised sources are forgotten")
        try:
            if frozen is not None:
                self.scans.remember(frozen)
                self._send_frozen()
        except (ValueError, TypeError, LookupError, AttributeError):
            self._audit.say(f"{self._frozen_file} cannot be read; frozen keys are unfrozen")
        try:
            if penalties is not None and 0 <= (ago := time.time() - float(penalties["at"])) <= STALE_SECONDS:
                self._acceptor.bans.remember(penalties["sources"], ago)
        except (ValueError, TypeError, LookupError, AttributeError):
            self._audit.say(f"{self._penalties_file} cannot be read; penalised sources are forgotten")
        with contextlib.suppress(OSError):
            self._penalties_file.unlink(missing_ok=True)

    def _read(self, file: Path, loss: str) -> Any:
        try:
            with file.open("rb") as opened:
                return json.loads(opened.read(MAX_FILE))
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            self._audit.say(f"{file} cannot be read; {loss}")
            return None


def _write(file: Path, value: object) -> str:
    """Write the file whole or not at all; the reason why it could not be written, "" on success."""
    try:
        atomic_file.replace(file, json.dumps(value).encode())
    except OSError as error:
        return error.strerror or "cannot be written"
    return ""

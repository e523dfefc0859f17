"""How much may those have who have proven a key, and who has how much? Connections, scans, freezes, and all in use.

The supervisor's bounds on known persons; those on strangers are the entrance's. What is counted here is exact; what
only workers know (dials, memory, rates) is what they said last. What a successor should not have to learn anew
(penalised sources, frozen keys) is left in a file for it.
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

MEMORY = "memory.json"  # in STATE/run: sources, written when a successor is about to come
FROZEN = "frozen.json"  # in STATE/run: keys, written at each change, because no crash may thaw one
MEMORY_BYTES = 16 << 20
STALE_SECONDS = 3600.0  # what a predecessor of so long ago knew is forgotten
LOOK_SECONDS = 1.0
QUIET_SECONDS = 60.0  # between two rows about the same limit of the same person, key or target
REMEMBERED = 1000  # of those


class SessionLimits:
    """What known persons may have."""

    def __init__(
        self,
        run: Path,
        crew: WorkerPool,
        record: AuditLog,
        *,
        entrance: Acceptor,
        slots: ForwardSlots,
        limits: Callable[[], Limits],
    ) -> None:
        """`run` is STATE/run; `limits` gives those in force."""
        self._loop = asyncio.get_running_loop()
        self._file = run / MEMORY
        self._frozen_file = run / FROZEN
        self._crew = crew
        self._record = record
        self._entrance = entrance
        self._slots = slots
        self._limits = limits
        self._quiet: OrderedDict[str, float] = OrderedDict()
        self.guests = SessionCounts()
        self.scans = ScanDetector(record, limits, self._frozen_changed)
        self.reached_count = 0  # how often a limit was reached since the start

    # ---- what workers tell

    def joined(self, member: WorkerHandle) -> None:
        """A worker is there: it has to know what is frozen."""
        member.link.send(self.scans.message())

    def lost(self, member: WorkerHandle) -> None:
        """A worker is gone, or its link is: in that case it says again whom it has."""
        for connection in member.connections:
            self.guests.leave(connection)

    def have(self, message: Message) -> None:
        """A worker that has joined says whom it has: they stay in any case."""
        self.guests.enter(message["c"], str(message["person"]), str(message["key"]), None)

    def proven(self, member: WorkerHandle, message: Message) -> None:
        """A connection has proven its key: it stays, unless its person or key has as many as it may."""
        person, key = str(message["person"]), str(message["key"])
        problem = self.guests.enter(message["c"], person, key, self._limits())
        if problem:
            self.reached("connections", problem, {"person": person, "fingerprint": key})
            of = problem.partition(" ")[0]
            text = f"you have as many connections open as one {of} may; end one, or reuse one (ControlMaster)"
            member.link.send({"t": "drop", "c": message["c"], "why": "too-many-connections", "text": text})

    def gone(self, connection: str) -> None:
        """A connection has ended."""
        self.guests.leave(connection)

    def recorded(self, event: Event) -> None:
        """A worker had something recorded."""
        if event.name == "forward.denied":
            self.scans.denied(event)

    def reached(self, limit: str, problem: str, fields: Mapping[str, Value]) -> None:
        """A limit was reached; `problem` begins with whose (see admission). Once a minute for each it is a row."""
        self.reached_count += 1
        now = self._loop.time()
        if self._quiet.get(problem, 0.0) > now:
            return
        self._quiet.pop(problem, None)
        self._quiet[problem] = now + QUIET_SECONDS
        while len(self._quiet) > REMEMBERED:
            self._quiet.popitem(last=False)
        who = {name: fields[name] for name in ("person", "fingerprint", "client") if fields.get(name)}
        fields = {"kind": limit, "reason": problem.partition(" ")[0].rstrip(":"), "detail": problem, **who}
        self._record.note("limit.reached", fields)

    async def watch(self) -> None:
        """Let freezes lapse and share rates out, for ever."""
        while True:
            await run_ticker(LOOK_SECONDS)
            self.scans.lapse()
            self._share()

    def _share(self) -> None:
        """A person's rate is shared by where the forwards are; a worker that was not told yet takes all of it."""
        if not self._limits().rate_per_person:
            return
        carried: dict[str, Counter[str]] = {}
        for slot in self._slots.held.values():
            carried.setdefault(slot.person, Counter())[slot.worker] += 1
        for member in self._crew.members.values():
            parts = {
                person: count[member.name] / count.total()
                for person, count in carried.items()
                if 0 < count[member.name] < count.total()
            }
            if parts != member.parts:
                member.parts = parts
                member.link.send({"t": "share", "parts": parts})

    def _frozen_changed(self) -> None:
        self._keep_frozen()  # first: what a worker enforces already is not forgotten by a crash in between
        self._tell()

    def _keep_frozen(self) -> None:
        frozen = self.scans.shown()
        if frozen or self._frozen_file.exists():
            problem = _write(self._frozen_file, frozen)
            if problem:
                self._record.say(f"{self._frozen_file}: {problem}; the next supervisor does not know what is frozen")

    def _tell(self) -> None:
        for member in self._crew.members.values():
            member.link.send(self.scans.message())

    # ---- what `relayctl` asks

    def ask(self, question: Mapping[str, Any]) -> Answer:
        """`bans`, `unban` and `limits`."""
        bans = self._entrance.bans
        if question["do"] == "bans":
            return {"ok": True, "bans": bans.shown(), "watched": bans.watched(), "frozen": self.scans.shown()}
        if question["do"] == "limits":
            return {"ok": True, "limits": self.usage()}
        by = {key: value for key, value in question.get("by", {}).items() if key.startswith("by_") or key == "why"}
        known = [*bans.sources(), *(name for one in self.scans.shown() for name in (one["person"], one["fingerprint"]))]
        wanted = ["*"] if question.get("all") else [str(name) for name in question.get("wanted", [])]
        lifted: list[str] = []
        missing = []
        for name in wanted:
            found = [*bans.lift("" if name == "*" else name, by), *self.scans.lift("" if name == "*" else name, by)]
            lifted += found
            if not found:
                missing.append(name)
        return {"ok": True, "lifted": lifted, "missing": [] if question.get("all") else missing, "known": known[:1000]}

    def usage(self) -> list[dict[str, Any]]:
        """Each limit with its use, and who uses most."""
        limits, members = self._limits(), self._crew.members.values()
        rows: list[tuple[str, float, float, str]] = list(self._entrance.use())
        for name, most in (("person", limits.connections_per_person), ("key", limits.connections_per_key)):
            who, count = self.guests.most(name)
            rows.append((f"connections_per_{name}", count, most, who))
        who, count = self._slots.fullest_connection()
        rows.append(("forwards_per_connection", count, limits.forwards_per_connection, who))
        for name, most in (
            ("person", limits.forwards_per_person),
            ("key", limits.forwards_per_key),
            ("target", limits.forwards_per_target),
        ):
            who, count = self._slots.most(name)
            rows.append((f"forwards_per_{name}", count, most, who))
        for name, most in (("dials", limits.dials), ("buffers", within(limits.buffers))):
            rows.append((name, sum(int(member.use.get(name, 0)) for member in members), most, ""))
        if limits.rate_per_person:
            rates: dict[str, int] = {}
            for member in members:
                for person, rate in member.use.get("rates", {}).items():
                    rates[person] = rates.get(person, 0) + int(rate)
            who = max(rates, key=rates.__getitem__, default="")
            rows.append(("rate_per_person", rates.get(who, 0), limits.rate_per_person, who))
        return [{"limit": name, "used": used, "most": most, "by": by if used else ""} for name, used, most, by in rows]

    # ---- for a successor

    def keep(self) -> None:
        """Leave what is known for the next supervisor; without room for it, that one learns anew."""
        self._keep_frozen()
        problem = _write(self._file, {"at": time.time(), "sources": self._entrance.memory()})
        if problem:
            self._record.say(f"{self._file}: {problem}; the next supervisor forgets penalised sources")

    def recall(self) -> None:
        """What the last supervisor left: frozen keys, and penalised sources if that is not too old (taken once)."""
        frozen = self._read(self._frozen_file, "frozen keys are thawed")
        memory = self._read(self._file, "penalised sources are forgotten")
        try:
            if frozen is not None:
                self.scans.remember(frozen)
                self._tell()
        except (ValueError, TypeError, LookupError, AttributeError):
            self._record.say(f"{self._frozen_file} cannot be read; frozen keys are thawed")
        try:
            if memory is not None and 0 <= (ago := time.time() - float(memory["at"])) <= STALE_SECONDS:
                self._entrance.remember(memory["sources"], ago)
        except (ValueError, TypeError, LookupError, AttributeError):
            self._record.say(f"{self._file} cannot be read; penalised sources are forgotten")
        with contextlib.suppress(OSError):
            self._file.unlink(missing_ok=True)

    def _read(self, file: Path, loss: str) -> Any:
        try:
            with file.open("rb") as opened:
                return json.loads(opened.read(MEMORY_BYTES))
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            self._record.say(f"{file} cannot be read; {loss}")
            return None


def _write(file: Path, value: object) -> str:
    """Write it whole or not at all; what went wrong, "" when nothing did."""
    try:
        atomic_file.replace(file, json.dumps(value).encode())
    except OSError as error:
        return error.strerror or "cannot be written"
    return ""

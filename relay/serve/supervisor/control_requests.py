"""Answers to the requests that come over the control socket, other than those answered in several pieces."""

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from relay import __version__
from relay.core.audit.event import Event, event_from_json
from relay.serve.supervisor import listeners
from relay.serve.supervisor.admission.acceptor import Acceptor
from relay.serve.supervisor.audit.audit_log import AuditLog
from relay.serve.supervisor.audit.retention import RetentionJob
from relay.serve.supervisor.control_server import Answer
from relay.serve.supervisor.limits.session_limits import SessionLimits
from relay.serve.supervisor.limits.session_slots import ForwardSlots
from relay.serve.supervisor.monitoring.metrics import Metrics
from relay.serve.supervisor.policy.rollout import Rollout
from relay.serve.supervisor.sd_notify import SystemdNotifier
from relay.serve.supervisor.worker_pool import WorkerPool
from relay.serve.supervisor.zone_status import ZoneStatus

ROW_SECONDS = 5.0  # for a row that a command asked for to become durable


class ControlRequests:
    """One answer to one request, by the request's `do`."""

    def __init__(
        self,
        *,
        rollout: Rollout,
        audit: AuditLog,
        workers: WorkerPool,
        acceptor: Acceptor,
        slots: ForwardSlots,
        limits: SessionLimits,
        retention: RetentionJob,
        zones: ZoneStatus,
        systemd: SystemdNotifier,
        metrics: Metrics,
        reload: Callable[[dict[str, Any]], Awaitable[Answer]],
    ) -> None:
        self._rollout = rollout
        self._audit = audit
        self._workers = workers
        self._acceptor = acceptor
        self._slots = slots
        self._limits = limits
        self._retention = retention
        self._zones = zones
        self._systemd = systemd
        self._metrics = metrics
        self._reload = reload

    async def answer(self, request: dict[str, Any]) -> Answer:
        """The answer; `ok` is False with a `problem` for a request that failed or is not known."""
        match request.get("do"):
            case "reload":
                return await self._reload(request)
            case "apply-keys":
                persons = [str(person) for person in request.get("persons", [])]
                events = [event_from_json(raw) for raw in request.get("events", [])]
                return await self._rollout.apply_keys(persons, events)
            case "record":
                return await self._record([event_from_json(raw) for raw in request.get("events", [])])
            case "status":
                return self._status()
            case "bans" | "unban" | "limits":
                return self._limits.answer(request)
            case other:
                return {"ok": False, "problem": f"this relay ({__version__}) does not know {other!r}"}

    async def _record(self, events: list[Event]) -> Answer:
        """Record a command's own events, and answer when the last one is durable."""
        durable: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        for event in events[:-1]:
            self._audit.event(event)
        if events:
            self._audit.event(events[-1], lambda problem: None if durable.done() else durable.set_result(problem))
            try:
                async with asyncio.timeout(ROW_SECONDS):
                    await durable
            except TimeoutError:
                return {"ok": False, "problem": self._audit.failing or "the row is not durable yet"}
        return {"ok": True}

    def _status(self) -> Answer:
        document, keyring = self._rollout.applied.document, self._rollout.applied.keyring
        workers = self._workers.members.values()
        forwards = Counter(slot.worker for slot in self._slots.held.values())
        return {
            "ok": True,
            "version": __version__,
            "pid": os.getpid(),
            "systemd": self._systemd.by_systemd,
            "listening": [listeners.where(sock) for sock in self._acceptor.sockets],
            "metrics": self._metrics.where,
            "policy": document.version,
            "keys": len(keyring.keys),
            "faults": [str(fault) for fault in self._rollout.faults],
            "forwards": len(self._slots.held),
            "before_login": self._acceptor.waiting,
            "connections": sum(len(worker.connections) for worker in workers),
            "database": self._audit.failing,
            "rows_lost": self._audit.lost,
            "retention": self._retention.status(),
            "seal": self._audit.seal_status(),
            "zones": self._zones.status(),
            "workers": [
                {
                    "name": worker.name,
                    "pid": worker.pid,
                    "connections": len(worker.connections),
                    "release": worker.release,
                    "slow": worker.slow,
                    "draining": worker.draining or not worker.ours,
                    "answers": self._workers.answers(worker),
                    "forwards": forwards[worker.name],
                }
                for worker in workers
            ],
        }

"""The pages /metrics, /healthz and /readyz, built when they are requested.

The supervisor collects; workers report their counters once a second (`figures`). Label values are fixed words and names
of zones, never persons, keys or addresses. docs/reference/metrics.md has the table.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from relay import __version__
from relay.core.prometheus_text import CONTENT_TYPE, MetricFamily, render
from relay.serve.supervisor.admission.acceptor import Acceptor
from relay.serve.supervisor.audit.audit_log import AuditLog
from relay.serve.supervisor.audit.retention import RetentionJob
from relay.serve.supervisor.counters import MAX_ZONE_LABELS
from relay.serve.supervisor.limits.session_limits import SessionLimits
from relay.serve.supervisor.monitoring.http_server import HttpPage, HttpServer
from relay.serve.supervisor.open_forwards import OpenForwards
from relay.serve.supervisor.policy.rollout import Rollout
from relay.serve.supervisor.worker_pool import SILENT_SECONDS, WorkerPool
from relay.serve.supervisor.zone_status import ZoneStatus
from relay.serve.ticker import run_ticker

LAG_SECONDS = 0.1  # between two measurements of the loop's lag
PROBE_EVERY = 100  # of these: a probe whether the audit database can be written


class Metrics:
    """The pages of one supervisor."""

    def __init__(
        self,
        state: Path,
        *,
        audit: AuditLog,
        workers: WorkerPool,
        rollout: Rollout,
        acceptor: Acceptor,
        session_limits: SessionLimits,
        forwards: OpenForwards,
        zones: ZoneStatus,
        retention: RetentionJob,
        stopping: Callable[[], bool],
    ) -> None:
        self._state = state
        self._audit_log = audit
        self._workers = workers
        self._rollout = rollout
        self._acceptor = acceptor
        self._limits = session_limits
        self._forwards = forwards
        self._zones = zones
        self._retention = retention
        self._stopping = stopping
        self._loop = asyncio.get_running_loop()
        self._began = time.time()
        pages = {"/metrics": self._metrics, "/healthz": self._healthz, "/readyz": self._readyz}
        self._server = HttpServer(pages, lambda: self._rollout.settings.metrics, audit.say)
        self.add_worker = audit.counts.add_worker

    @property
    def where(self) -> str:
        """The address of the pages, "" if there is none."""
        return self._server.where

    async def run(self) -> None:
        """Serve the pages where the settings say, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._server.run())
            group.create_task(self._watch())

    async def _watch(self) -> None:
        """Measure how late timers of the loop are, and probe the audit database, also while there are no clients."""
        measurements = 0
        while True:
            due = self._loop.time() + LAG_SECONDS
            if not self.where:
                await run_ticker(1.0)
            else:
                await asyncio.sleep(LAG_SECONDS)
                self._audit_log.counts.lag.observe(self._loop.time() - due)
                measurements += 1
                if measurements % PROBE_EVERY == 1:
                    self._audit_log.probe()

    # ---- the pages

    def _healthz(self) -> HttpPage:
        if not self._workers.answering(SILENT_SECONDS):
            return HttpPage("a worker that should take clients does not answer\n", 503)
        return HttpPage("ok\n")

    def _readyz(self) -> HttpPage:
        problems = list(self._problems())
        return HttpPage("".join(f"{problem}\n" for problem in problems), 503) if problems else HttpPage("ok\n")

    def _problems(self) -> Iterator[str]:
        """The reasons why the relay is not ready, in words without addresses or paths."""
        if self._stopping():
            yield "the relay is stopping"
        if not self._workers.answering(SILENT_SECONDS):
            yield "workers: one that should take clients does not answer, or there is none"
        if not self._rollout.applied.document.version:
            yield "policy: none is applied"
        elif self._rollout.faults:
            yield "policy: the site's files have faults; what was applied last goes on"
        if self._audit_log.failing:
            yield "audit: the database cannot be written, so no forward opens"
        zones = self._zones.obstacles()
        yield from (f"zone {zone}: {obstacle}" for zone, obstacle in tuple(zones.items())[:MAX_ZONE_LABELS] if obstacle)

    def _metrics(self) -> HttpPage:
        return HttpPage(render(self._families()), content_type=CONTENT_TYPE)

    # ---- the families

    def _families(self) -> Iterator[MetricFamily]:
        yield MetricFamily("relay_build_info", "gauge", "Version of the serving program.").put(1, version=__version__)
        yield from self._process()
        yield from self._people()
        yield from self._traffic()
        yield from self._audit()
        yield from self._site()
        yield from self._bounds()

    def _process(self) -> Iterator[MetricFamily]:
        counts = self._audit_log.counts
        started = MetricFamily("relay_start_time_seconds", "gauge", "When this supervisor started, Unix seconds.")
        yield started.put(self._began)
        ready = MetricFamily("relay_ready", "gauge", "1 if /readyz reports no problem.")
        yield ready.put(0 if any(self._problems()) else 1)
        states = {"serving": 0, "draining": 0, "silent": 0}
        for worker in self._workers.members.values():
            leaving = worker.draining or not worker.ours
            states["draining" if leaving else "serving" if self._workers.answers(worker) else "silent"] += 1
        workers = MetricFamily(
            "relay_workers", "gauge", "Worker processes: taking clients, draining, or not answering."
        )
        for state, count in states.items():
            workers.put(count, state=state)
        yield workers
        slow = MetricFamily("relay_workers_slow", "gauge", "Workers that do not use the fast path; the log says why.")
        yield slow.put(sum(bool(worker.slow) for worker in self._workers.members.values()))
        memory = MetricFamily("relay_resident_memory_bytes", "gauge", "Resident memory, all workers together.")
        memory.put(_resident(os.getpid()), process="supervisor")
        yield memory.put(sum(_resident(worker.pid) for worker in self._workers.members.values()), process="workers")
        lag = MetricFamily("relay_loop_lag_seconds", "histogram", "How late timers are, measured ten times a second.")
        yield lag.spread(counts.lag, process="supervisor").spread(counts.worker_lag, process="worker")

    def _people(self) -> Iterator[MetricFamily]:
        figures, counts = self._acceptor.figures(), self._audit_log.counts
        inside = sum(len(worker.connections) for worker in self._workers.members.values())
        before = figures["before_login"]
        yield MetricFamily("relay_connections", "gauge", "Authenticated connections.").put(max(inside - before, 0))
        waiting = MetricFamily("relay_connections_before_login", "gauge", "Unauthenticated connections.")
        yield waiting.put(before, place="inside").put(figures["line"], place="line")
        accepted = MetricFamily("relay_connections_accepted_total", "counter", "Connections passed to a worker.")
        yield accepted.put(figures["let_in"])
        away = MetricFamily(
            "relay_connections_turned_away_total", "counter", "Connections refused before any handshake."
        )
        yield away.put(figures["turned_away"])
        logins = MetricFamily(
            "relay_logins_total", "counter", "Log-ins by result: succeeded, or the reason of failure."
        )
        logins.put(dict(counts.rows.items())["login.succeeded"], result="succeeded")
        for failure, count in counts.failures.items():
            logins.put(count, result=failure)
        yield logins
        yield MetricFamily("relay_bans", "gauge", "Sources that are penalised now.").put(figures["bans"])
        begun = MetricFamily("relay_bans_begun_total", "counter", "Penalties that began.")
        yield begun.put(self._acceptor.bans.begun)

    def _traffic(self) -> Iterator[MetricFamily]:
        counts = self._audit_log.counts
        yield MetricFamily("relay_forwards", "gauge", "Forwards that are open or being opened.").put(
            len(self._forwards.slots.held)
        )
        opened = MetricFamily(
            "relay_forwards_allowed_total", "counter", "Forwards that were allowed, with a durable row."
        )
        yield opened.put(dict(counts.rows.items())["forward.opened"])
        for name, meaning, label, words in (
            ("relay_forwards_denied_total", "Forwards that were denied, by reason.", "reason", counts.denied),
            ("relay_forwards_closed_total", "Forwards that ended, by reason.", "reason", counts.closings),
            (
                "relay_requests_refused_total",
                "Refused channels and requests other than direct-tcpip, by kind.",
                "kind",
                counts.refused,
            ),
        ):
            family = MetricFamily(name, "counter", meaning)
            for word, count in words.items():
                family.put(count, **{label: word})
            yield family
        flow = MetricFamily("relay_bytes_total", "counter", "Bytes to targets (sent) and from them (received).")
        yield flow.put(counts.sent, direction="sent").put(counts.received, direction="received")
        dials = MetricFamily("relay_dial_seconds", "histogram", "Duration of dials to targets, by result.")
        for (zone, result), histogram in counts.dials.items():
            dials.spread(histogram, zone=zone, result=result)
        yield dials

    def _audit(self) -> Iterator[MetricFamily]:
        counts = self._audit_log.counts
        rows = MetricFamily("relay_audit_rows_total", "counter", "Audit rows that became durable, by event.")
        for event, count in counts.rows.items():
            rows.put(count, event=event)
        yield rows
        yield MetricFamily("relay_audit_commit_seconds", "histogram", "One transaction of the audit database.").spread(
            counts.commits
        )
        failing = MetricFamily("relay_audit_failing", "gauge", "1 if rows cannot be written: no new forward opens.")
        yield failing.put(1 if self._audit_log.failing else 0)
        lost = MetricFamily(
            "relay_audit_rows_lost_total", "counter", "Audit rows that could not be written and are lost."
        )
        yield lost.put(self._audit_log.lost)
        room = self._retention.room
        size = MetricFamily("relay_audit_database_bytes", "gauge", "The audit database: used by rows, and its file.")
        yield size.put(room.used, part="used").put(room.size, part="file")
        archived = MetricFamily("relay_audit_archived_rows", "gauge", "Rows that have left the database for archives.")
        yield archived.put(room.base)
        stuck = MetricFamily(
            "relay_audit_archiving_failing", "gauge", "1 if old rows could not be archived the last time."
        )
        yield stuck.put(1 if self._retention.failing else 0)
        ballast = MetricFamily(
            "relay_audit_ballast", "gauge", "1 if there is a reserve for closing rows on a full disk."
        )
        yield ballast.put(1 if self._audit_log.has_ballast else 0)
        sealer = self._audit_log.sealer
        if sealer is not None:
            at = MetricFamily(
                "relay_audit_sealed_time_seconds", "gauge", "When the last checkpoint was signed, Unix seconds."
            )
            yield at.put(sealer.sealed_at)
            unsealed = MetricFamily("relay_audit_unsealed_rows", "gauge", "Audit rows that no checkpoint covers yet.")
            yield unsealed.put(sealer.unsealed)
            overdue = MetricFamily(
                "relay_audit_seal_overdue", "gauge", "1 if a checkpoint should have been signed long ago."
            )
            yield overdue.put(1 if sealer.overdue else 0)
        free = MetricFamily(
            "relay_disk_free_bytes", "gauge", "Free space for the relay's user on the disk of the audit database."
        )
        yield free.put(_free(self._state))

    def _site(self) -> Iterator[MetricFamily]:
        up = MetricFamily(
            "relay_zone_up", "gauge", "1 if the zone's interface, address and route are what they should be."
        )
        for zone, obstacle in tuple(self._zones.obstacles().items())[:MAX_ZONE_LABELS]:
            up.put(0 if obstacle else 1, zone=zone)
        yield up
        faults = MetricFamily("relay_site_faults", "gauge", "Faults in the site's files, which prevent a reload.")
        yield faults.put(len(self._rollout.faults))
        yield MetricFamily("relay_keys", "gauge", "Keys in force.").put(len(self._rollout.applied.keyring.keys))

    def _bounds(self) -> Iterator[MetricFamily]:
        used = MetricFamily("relay_limit_used", "gauge", "Use of a limit by its greatest user.")
        limit = MetricFamily("relay_limit", "gauge", "The limit itself (relay.yaml, limits).")
        for row in self._limits.usage():
            used.put(row["used"], limit=row["limit"])
            limit.put(row["most"], limit=row["limit"])
        yield used
        yield limit
        reached = MetricFamily(
            "relay_limits_reached_total", "counter", "How often a person, key or target reached a limit."
        )
        yield reached.put(self._limits.reached_count)
        scans = MetricFamily(
            "relay_scans_total", "counter", "Keys that asked for many different denied targets in a minute."
        )
        yield scans.put(self._limits.scans.scans)
        frozen = MetricFamily("relay_keys_frozen", "gauge", "Keys that are frozen now.")
        yield frozen.put(len(self._limits.scans.shown()))


def _free(directory: Path) -> int:
    """Free bytes for an unprivileged user; 0 where that cannot be read."""
    try:
        disk = os.statvfs(directory)
    except OSError:
        return 0
    return disk.f_bavail * disk.f_frsize


def _resident(pid: int) -> int:
    """Resident bytes of a process; 0 where that cannot be read (proc(5), statm)."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0

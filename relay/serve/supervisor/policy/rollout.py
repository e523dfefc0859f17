"""Rollout of a new running configuration: reload, key changes, removed key files, and the messages to workers.

`running_config` holds the configuration. Here it is replaced, one change at a time, sent to every worker, and recorded.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from relay.core.audit.event import Event, Value
from relay.core.escape import escape
from relay.core.keys.keyring import dump
from relay.core.settings import Settings
from relay.errors import Fault, RelayError, SiteInvalid
from relay.serve.ipc import chunks, encode
from relay.serve.supervisor.audit.audit_log import AuditLog
from relay.serve.supervisor.control_server import Answer
from relay.serve.supervisor.policy.running_config import RunningConfig, compile_site
from relay.serve.supervisor.worker_pool import WorkerHandle, WorkerPool
from relay.serve.ticker import run_ticker
from relay.site.locate import Site

KEY_FILES_SECONDS = 1.0  # between two checks of the key files
FAULTS_SECONDS = 600.0  # between two messages about a site with faults


class Rollout:
    """The running configuration of one relay, and its distribution to the workers."""

    def __init__(self, site: Site, workers: WorkerPool, audit: AuditLog) -> None:
        self._site = site
        self._workers = workers
        self._audit = audit
        self.applied = RunningConfig(site)
        self.faults: tuple[Fault, ...] = ()
        self.listening: list[Any] = []  # addresses and ports of the listening sockets
        self._policy_frames: list[bytes] = []
        self._key_frames: list[bytes] = []
        self._changing = asyncio.Lock()  # held while the configuration is replaced
        self._reloading = asyncio.Lock()  # one compilation at a time

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self.applied.document.settings

    async def start(self) -> None:
        """Apply the files, or with faults in them what was applied last. Raises SiteInvalid when there is neither."""
        self.faults = await self.applied.start()
        if self.faults and not self.applied.document.version:
            raise SiteInvalid(self.faults, "nothing was applied earlier, so there is nothing to go on with")

    # ---- messages to workers

    def send(self, worker: WorkerHandle) -> None:
        """Send one worker the settings, policy and keys in force."""
        settings = self.applied.document.settings_json
        worker.link.send({"t": "settings", "settings": settings, "listening": self.listening})
        worker.link.send_bulk(self._policy_frames)
        worker.link.send_bulk(self._key_frames)

    async def send_all(self) -> None:
        """Send all workers policy, settings and keys; a large policy is encoded in a thread."""
        document, keyring = self.applied.document, self.applied.keyring
        self._policy_frames = await asyncio.to_thread(_frames, "policy", document.version, list(document.policy))
        self._key_frames = _frames("keys", keyring.version, list(dump(keyring)))
        for worker in self._workers.members.values():
            self.send(worker)

    def _send_keys(self) -> None:
        """Send all workers the keys. A thousand of them take a few milliseconds, and a revocation cannot wait."""
        keyring = self.applied.keyring
        self._key_frames = _frames("keys", keyring.version, list(dump(keyring)))
        for worker in self._workers.members.values():
            worker.link.send_bulk(self._key_frames)

    # ---- changing

    async def reload(self, question: Mapping[str, Any]) -> Answer:
        """Apply the files, all or nothing; the answer is the list of changes or of faults."""
        by = {key: value for key, value in question.get("by", {}).items() if key.startswith("by_")}
        async with self._reloading:
            try:
                # not under the lock of `_changing`: a revocation must not wait for a compilation
                document = await compile_site(self._site)
                async with self._changing:
                    changed = await self.applied.reload(document)
                    await self.send_all()
            except SiteInvalid as error:
                self.faults = error.faults
                self._audit.note("site.rejected", {"detail": _fault_list(error.faults), **by})
                faults = [[fault.file, fault.line, fault.what, fault.cure] for fault in error.faults]
                return {"ok": False, "faults": faults}
            except RelayError as error:
                self._audit.note("site.rejected", {"detail": error.what, **by})
                return {"ok": False, "problem": error.what, "hint": error.hint}
            except OSError as error:  # no process or descriptor left for the child
                return {"ok": False, "problem": f"the site could not be checked: {error}"}
            self.faults = ()
        document, keyring = self.applied.document, self.applied.keyring
        detail = "; ".join(changed)[:900] or "nothing changed"
        self._audit.note(
            "site.applied", {"policy": document.version, "keys": len(keyring.keys), "detail": detail, **by}
        )
        return {
            "ok": True,
            "version": document.version,
            "changed": changed,
            "warnings": list(document.warnings),
            "keys": len(keyring.keys),
            "out": [str(fault) for fault in keyring.faults],
        }

    async def apply_keys(self, persons: list[str], events: list[Event]) -> Answer:
        """Apply the key files of these persons at once; `events` are the rows of the command that changed them."""
        recorded = frozenset(str(event.fields.get("fingerprint")) for event in events)
        before = self.applied.keyring.version
        async with self._changing:
            gone = await self.applied.apply_keys(persons)
        if self.applied.keyring.version != before and not gone:
            self._send_keys()
        self._keys_gone(gone, recorded)
        await asyncio.to_thread(self.applied.store_keys)
        for event in events:
            self._audit.event(event)
        return {"ok": True, "keys": len(self.applied.keyring.keys), "problem": self._audit.failing}

    async def watch_keys(self) -> None:
        """Apply removed key files and lines by themselves, for ever."""
        while True:
            await run_ticker(KEY_FILES_SECONDS)
            async with self._changing:
                try:
                    gone = await self.applied.narrow()
                except Exception as error:  # go on: the next change may be a revocation
                    self._audit.say(f"the key files cannot be checked: {error!r}")
                    continue
            if gone:
                self._keys_gone(gone, frozenset())
                await asyncio.to_thread(self.applied.store_keys)

    def _keys_gone(self, gone: tuple[str, ...], recorded: frozenset[str]) -> None:
        """Send and record that these keys are no longer in force; `recorded` are those that have their row already."""
        if not gone:
            return
        self._send_keys()
        for fingerprint in gone:
            revocation = self.applied.keyring.revocations.get(fingerprint)
            if fingerprint in recorded:
                continue
            if revocation is None:
                self._audit.note("key.removed", {"fingerprint": fingerprint, "detail": "gone from the key files"})
            else:
                place: dict[str, Value] = {"file": revocation.file, "line": revocation.line, "why": revocation.why}
                self._audit.note("key.revoked", {"fingerprint": fingerprint, **place})

    # ---- messages to the operator

    def log_start(self) -> None:
        """Record and log, at the start, what is in force."""
        document = self.applied.document
        if self.faults:
            self._log_faults()
        elif document.version:
            keys = len(self.applied.keyring.keys)
            self._audit.note("site.applied", {"policy": document.version, "keys": keys, "detail": "at start"})
        for warning in document.warnings:
            self._audit.say(f"warning: {escape(warning, 400)}")
        for fault in self.applied.keyring.faults:
            self._audit.say(f"a key is out: {escape(str(fault), 400)}")

    async def repeat_faults(self) -> None:
        """Log the faults of the site again and again, as long as it has any."""
        if self.faults:
            version = self.applied.document.version
            self._audit.note("site.rejected", {"policy": version, "detail": _fault_list(self.faults)})
        while True:
            await asyncio.sleep(FAULTS_SECONDS)
            if self.faults:
                self._log_faults()

    def _log_faults(self) -> None:
        version = self.applied.document.version
        in_force = f"policy {version}, applied earlier, stays in force" if version else "nothing can be reached"
        self._audit.say(f"THE SITE HAS FAULTS; {in_force}; see: relayctl --site {self._site.path} check")
        for fault in self.faults[:10]:
            self._audit.say(f"  {escape(str(fault), 400)}")


def _frames(kind: str, version: str, document: list[str]) -> list[bytes]:
    return [encode(frame) for frame in chunks(kind, version, document)]


def _fault_list(faults: tuple[Fault, ...]) -> str:
    return escape("; ".join(str(fault) for fault in faults[:5]), 900)

"""How does the law change, and how do workers and log learn of it? Reload, keys alone, and what vanishes by itself.

`applied` holds the law; here it is switched, one change at a time, sent to every worker, and said.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from relay.core.audit.event import Event, Value
from relay.core.escape import escape
from relay.core.keys import keyring as keyrings
from relay.core.settings import Settings
from relay.errors import Fault, RelayError, SiteInvalid
from relay.serve.ipc import chunks, encode
from relay.serve.supervisor.audit.audit_log import AuditLog
from relay.serve.supervisor.control_server import Answer
from relay.serve.supervisor.policy.running_config import RunningConfig, compile_site
from relay.serve.supervisor.worker_pool import WorkerHandle, WorkerPool
from relay.serve.ticker import run_ticker
from relay.site.locate import Site

KEYS_SECONDS = 1.0  # how often the key files are looked at
SHOUT_SECONDS = 600.0  # how often a broken site is said again


class Rollout:
    """The law of one relay, and its messengers."""

    def __init__(self, site: Site, crew: WorkerPool, record: AuditLog) -> None:
        self._site = site
        self._crew = crew
        self._record = record
        self.applied = RunningConfig(site)
        self.faults: tuple[Fault, ...] = ()
        self.listening: list[Any] = []  # addresses and ports really listened at
        self._policy_frames: list[bytes] = []
        self._key_frames: list[bytes] = []
        self._changing = asyncio.Lock()  # held while the law is switched
        self._reloading = asyncio.Lock()  # one compilation at a time

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self.applied.document.settings

    async def start(self) -> None:
        """Take the files as law, or what was applied last. Raises SiteInvalid when there is neither."""
        self.faults = await self.applied.start()
        if self.faults and not self.applied.document.version:
            raise SiteInvalid(self.faults, "nothing was applied earlier, so there is nothing to go on with")

    # ---- telling the workers

    def send(self, member: WorkerHandle) -> None:
        """Tell one worker everything that is in force."""
        settings = self.applied.document.settings_json
        member.link.send({"t": "settings", "settings": settings, "listening": self.listening})
        member.link.send_bulk(self._policy_frames)
        member.link.send_bulk(self._key_frames)

    async def send_all(self) -> None:
        """Tell all workers about policy, settings and keys; a large policy is made ready beside the loop."""
        document, keyring = self.applied.document, self.applied.keyring
        self._policy_frames = await asyncio.to_thread(_frames, "policy", document.version, list(document.policy))
        self._key_frames = _frames("keys", keyring.version, list(keyrings.dump(keyring)))
        for member in self._crew.members.values():
            self.send(member)

    def _send_keys(self) -> None:
        """Tell all workers about the keys: a few milliseconds for a thousand of them, and a revocation cannot wait."""
        keyring = self.applied.keyring
        self._key_frames = _frames("keys", keyring.version, list(keyrings.dump(keyring)))
        for member in self._crew.members.values():
            member.link.send_bulk(self._key_frames)

    # ---- changing

    async def reload(self, question: Mapping[str, Any]) -> Answer:
        """Make the files law, all or nothing; answers what changed or what is wrong."""
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
                self._record.note("site.rejected", {"detail": _shown(error.faults), **by})
                faults = [[fault.file, fault.line, fault.what, fault.cure] for fault in error.faults]
                return {"ok": False, "faults": faults}
            except RelayError as error:
                self._record.note("site.rejected", {"detail": error.what, **by})
                return {"ok": False, "problem": error.what, "hint": error.hint}
            except OSError as error:  # no process or descriptor left for the child
                return {"ok": False, "problem": f"the site could not be checked: {error}"}
            self.faults = ()
        document, keyring = self.applied.document, self.applied.keyring
        detail = "; ".join(changed)[:900] or "nothing changed"
        self._record.note(
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
        """For these persons the key files are the law, at once; `events` are the rows of who changed them."""
        said = frozenset(str(event.fields.get("fingerprint")) for event in events)
        before = self.applied.keyring.version
        async with self._changing:
            gone = await self.applied.apply_keys(persons)
        if self.applied.keyring.version != before and not gone:
            self._send_keys()
        self._keys_gone(gone, said)
        await asyncio.to_thread(self.applied.keep_keys)
        for event in events:
            self._record.event(event)
        return {"ok": True, "keys": len(self.applied.keyring.keys), "problem": self._record.failing}

    async def watch_keys(self) -> None:
        """Let a removed key file or line take effect by itself, for ever."""
        while True:
            await run_ticker(KEYS_SECONDS)
            async with self._changing:
                try:
                    gone = await self.applied.narrow()
                except Exception as error:  # the watch must go on: a revocation may come next
                    self._record.say(f"the key files cannot be looked at: {error!r}")
                    continue
            if gone:
                self._keys_gone(gone, frozenset())
                await asyncio.to_thread(self.applied.keep_keys)

    def _keys_gone(self, gone: tuple[str, ...], said: frozenset[str]) -> None:
        """Tell the workers about keys that are out; `said` are those whose row somebody else has sent."""
        if not gone:
            return
        self._send_keys()
        for fingerprint in gone:
            revocation = self.applied.keyring.revocations.get(fingerprint)
            if fingerprint in said:
                continue
            if revocation is None:
                self._record.note("key.removed", {"fingerprint": fingerprint, "detail": "gone from the key files"})
            else:
                place: dict[str, Value] = {"file": revocation.file, "line": revocation.line, "why": revocation.why}
                self._record.note("key.revoked", {"fingerprint": fingerprint, **place})

    # ---- saying

    def say(self) -> None:
        """Say, at the start, what is in force."""
        document = self.applied.document
        if self.faults:
            self._shout_now()
        elif document.version:
            keys = len(self.applied.keyring.keys)
            self._record.note("site.applied", {"policy": document.version, "keys": keys, "detail": "at start"})
        for warning in document.warnings:
            self._record.say(f"warning: {escape(warning, 400)}")
        for fault in self.applied.keyring.faults:
            self._record.say(f"a key is out: {escape(str(fault), 400)}")

    async def shout(self) -> None:
        """Go on saying that the site has faults, for as long as it has them."""
        if self.faults:
            version = self.applied.document.version
            self._record.note("site.rejected", {"policy": version, "detail": _shown(self.faults)})
        while True:
            await asyncio.sleep(SHOUT_SECONDS)
            if self.faults:
                self._shout_now()

    def _shout_now(self) -> None:
        version = self.applied.document.version
        going_on = f"policy {version}, applied earlier, goes on" if version else "nothing can be reached"
        self._record.say(f"THE SITE HAS FAULTS; {going_on}; see: relayctl --site {self._site.path} check")
        for fault in self.faults[:10]:
            self._record.say(f"  {escape(str(fault), 400)}")


def _frames(kind: str, version: str, document: list[str]) -> list[bytes]:
    return [encode(frame) for frame in chunks(kind, version, document)]


def _shown(faults: tuple[Fault, ...]) -> str:
    return escape("; ".join(str(fault) for fault in faults[:5]), 900)

"""Retention of the audit log: a child process archives old rows, then the writer deletes them.

A row is deleted only after the child has read back the archive that holds it, and after the row `audit.archived` is
durable (store.archive.archive_job has the order). Deleting is done in short slices with pauses, so no forward waits
for it.
"""

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from relay.core.audit.archive_format import ArchiveEntry, entry_of, retention
from relay.core.audit.event import Event, Value
from relay.core.settings import Settings
from relay.errors import RelayError, StoreUnavailable
from relay.serve.supervisor.audit.audit_log import AuditLog
from relay.serve.supervisor.control_server import ControlConversation
from relay.store.pruning import SLICE, DatabaseRoom
from relay.store.writer import AuditWriter

LOOK_SECONDS = 60.0  # how often the size is looked at
AGAIN_SECONDS = 600.0  # after a run that found nothing to archive, though the database is too large
AGE_SECONDS = 3600.0  # how often the age of rows is; archives are made once a day for it
CHILD_SECONDS = 600.0  # for one archive: 100,000 rows take some seconds on a busy machine
PAUSE_SECONDS = 0.02  # after a slice of deletions, and at least
PAUSES = 4  # times as long as it took: four of five forwards meet none
_BY = ("by_uid", "by_login_uid", "by_sudo", "why")
_LONGEST = 1 << 20  # bytes of what the child says at once


class RetentionJob:
    """The supervisor's keeper of old rows."""

    def __init__(self, state: Path, record: AuditLog, settings: Callable[[], Settings]) -> None:
        self._state = state
        self._record = record
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._busy = asyncio.Lock()
        self.room = DatabaseRoom(0, 0, 0)
        self.failing = ""  # why the last run could not archive or delete; "" when it could
        self.hint = ""
        self.held = ""  # why rows that should be archived are not yet
        self.looked_at = 0.0  # Unix seconds of the last run

    async def run(self) -> None:
        """Look for ever."""
        last = float("-inf")
        wait = 0.0
        while True:
            await self._measure()
            most = self._settings().audit_max_size
            too_large = most and self.room.used > most
            if self._loop.time() - last >= (wait if too_large else AGE_SECONDS):
                last = self._loop.time()
                async with self._busy:
                    some = await self._archive(None, {}, _to_nobody)
                wait = 0.0 if some else AGAIN_SECONDS
            await asyncio.sleep(LOOK_SECONDS)

    async def ask(self, question: dict[str, Any], conversation: ControlConversation) -> None:
        """`relayctl audit archive`: each archive as its rows have left the database, then how it ended."""

        gone = False

        async def tell(told: Mapping[str, Any]) -> None:
            nonlocal gone
            if gone:
                return
            try:
                await conversation.send(told)
            except (OSError, TimeoutError):
                gone = True  # what was begun is done all the same

        before = question.get("before")
        given = question.get("by")
        by = {key: given[key] for key in _BY if type(given.get(key)) in (str, int)} if isinstance(given, dict) else {}
        async with self._busy:
            await self._archive(before if type(before) is int else None, by, tell)
        if self.failing:
            await tell({"ok": False, "problem": self.failing, "hint": self.hint})
        else:
            await tell({"ok": True, "last": True, "held": self.held})

    def status(self) -> dict[str, Any]:
        """What `relayctl doctor` is told."""
        return {
            "used": self.room.used,
            "size": self.room.size,
            "archived": self.room.base,
            "failing": self.failing,
            "hint": self.hint,
            "held": self.held,
            "ballast": self._record.has_ballast,
        }

    # ---- one run

    async def _measure(self) -> None:
        try:
            self.room = await self._record.run_in_writer(lambda writer: writer.room())
        except RelayError:
            return  # it cannot be written: that is said elsewhere

    async def _archive(
        self, before: int | None, by: Mapping[str, Value], tell: Callable[[Mapping[str, Any]], Awaitable[None]]
    ) -> bool:
        """Archive what is due, and let it go; whether anything was. How it went is in `failing` and `held`."""
        failed = failed_hint = ""
        some = False
        try:
            async with contextlib.aclosing(self._entries(before)) as entries:
                async for entry in entries:
                    await self._let_go(entry, by)
                    some = True
                    await tell({"entry": entry.file, "rows": entry.rows, "bytes": entry.bytes})
            await self._bit_by_bit(lambda writer: writer.give_back())
        except RelayError as error:
            failed, failed_hint = error.what, error.hint
        except TimeoutError:
            failed, failed_hint = f"an archive took more than {CHILD_SECONDS:g} s", "is the disk well? dmesg"
        except ValueError as error:
            failed, failed_hint = f"the process that archives speaks nonsense: {error}"[:300], "journalctl -u relay"
        except OSError as error:
            failed, failed_hint = f"no process can be started to archive: {error.strerror}", "journalctl -u relay"
        self.looked_at = time.time()
        if failed and failed != self.failing:
            self._record.say(f"old audit rows stay in the database: {failed}")
        elif self.failing and not failed:
            self._record.say("old audit rows are archived again")
        self.failing, self.hint = failed, failed_hint
        await self._measure()
        return some

    async def _let_go(self, entry: ArchiveEntry, by: Mapping[str, Value]) -> None:
        """Say that the rows are archived, then delete them. Raises StoreUnavailable."""
        done: asyncio.Future[str] = self._loop.create_future()
        row = entry.archived()
        self._record.event(
            Event(row.id, row.time, row.name, {**row.fields, **by}),
            lambda problem: None if done.done() else done.set_result(problem),
        )
        async with asyncio.timeout(CHILD_SECONDS):
            problem = await done
        if problem:
            raise StoreUnavailable(problem, "df -h")
        await self._bit_by_bit(lambda writer: writer.forget(entry.last, entry.hash, SLICE))

    async def _bit_by_bit(self, errand: Callable[[AuditWriter], bool]) -> None:
        more = True
        while more:
            began = self._loop.time()
            more = await self._record.run_in_writer(errand)
            await asyncio.sleep(max(PAUSE_SECONDS, PAUSES * (self._loop.time() - began)))

    async def _entries(self, before: int | None) -> AsyncGenerator[ArchiveEntry, None]:
        """What the child says: archives whose rows may leave the database. Raises RelayError when it fails."""
        wished = retention(self._settings())
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "relay.store.archive.archive_job", str(self._state)),
            *(str(wished.keep), str(wished.most)),
            *(() if before is None else (str(before),)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            limit=_LONGEST,
        )
        assert process.stdout is not None
        try:
            while True:
                async with asyncio.timeout(CHILD_SECONDS):
                    line = await process.stdout.readline()
                if not line:
                    raise RelayError("the process that archives ended early", "journalctl -u relay")
                told = json.loads(line)
                if "entry" in told:
                    yield entry_of(told["entry"])
                elif "held" in told:
                    self.held = str(told["held"])
                elif "problem" in told:
                    raise StoreUnavailable(str(told["problem"]), str(told.get("hint", "")))
                else:
                    return
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def _to_nobody(told: Mapping[str, Any]) -> None:
    """For a run that nobody asked for."""

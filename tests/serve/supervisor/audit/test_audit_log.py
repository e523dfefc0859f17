"""The audit log of the supervisor: rows become durable and are counted, openings are refused without a database."""

import asyncio
from pathlib import Path

from relay.core.settings import Settings
from relay.serve.supervisor.audit.audit_log import AuditLog
from relay.store.reader import AuditReader
from relay.store.writer import FILE
from tests.audit_rows import Relay


async def test_a_row_is_durable_when_it_is_answered(tmp_path: Path) -> None:
    """The answer comes after the row is in the database, and the row is counted by its event."""
    log = AuditLog(Settings, lambda: "v1")
    assert log.open(tmp_path / FILE, "relay") == {}
    answered: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    relay = Relay()
    log.event(relay.login(relay.connect()), answered.set_result)
    async with asyncio.timeout(10):
        assert await answered == ""
    with AuditReader(tmp_path / FILE) as reader:
        assert "login.succeeded" in [row.event.name for row in reader.after(0)]
    assert dict(log.counts.rows.items())["login.succeeded"] == 1
    await log.close()


async def test_without_a_database_an_opening_is_refused(tmp_path: Path) -> None:
    """Before the log is open an opening is answered with the reason, and no other event fails."""
    log = AuditLog(Settings, lambda: "v1")
    relay = Relay()
    answers: list[str] = []
    log.opening(relay.opened(relay.connect()), answers.append)
    log.note("zone.up", {"zone": "office"})
    assert answers == ["the audit database is closed"]
    assert log.failing


async def test_attempts_before_log_in_are_stored_as_counters(tmp_path: Path) -> None:
    """Closing the log stores what was counted, without an address or a login name in clear."""
    log = AuditLog(Settings, lambda: "v1")
    log.open(tmp_path / FILE, "relay")
    for _ in range(3):
        log.stranger("unknown-key", "203.0.113.9", 50000, number="0k3v9x2m4qz", login="root-password")
    await log.close()
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    assert b"203.0.113.0/24" in stored
    assert b"root-password" not in stored

"""Checkpoints as the relay makes them: when, with which keys, through failures, crashes and restarts."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from relay.core.audit import checkpoint
from relay.core.audit.anchor import Anchor
from relay.core.audit.event import Event
from relay.core.audit.log_verifier import LogVerifier
from relay.core.audit.verification_result import VerificationResult
from relay.serve.supervisor.audit.checkpoint_signer import CheckpointTerms
from relay.serve.supervisor.audit.group_commit import GroupCommit
from relay.store import signing_key
from relay.store.reader import AuditReader
from relay.store.signing_key import DIRECTORY
from relay.store.writer import FILE
from tests.audit_rows import Relay
from tests.relay_process import relay as running
from tests.relay_process import wait_for

OFTEN = CheckpointTerms(rows=5, after=0.05, heartbeat=3600.0, policy="3f2a9c01b7de")


class Sealing:
    """A recorder that seals, and what it tells."""

    def __init__(self, state: Path, terms: CheckpointTerms = OFTEN) -> None:
        self.terms = terms
        self.told: list[tuple[Event, Anchor]] = []
        self.relay = Relay(time.time_ns() // 1000 - 60_000_000)
        self.recorder = GroupCommit(
            state / FILE,
            "relay",
            lambda events: None,
            terms=lambda: self.terms,
            sealed=lambda event, anchor: self.told.append((event, anchor)),
        )
        self.recorder.start()

    def write(self, rows: int) -> None:
        """So many rows."""
        for _ in range(rows):
            self.recorder.note(self.relay.event("zone.up", zone="office"))

    def names(self) -> list[str]:
        """The events by which the log was sealed."""
        return [event.name for event, _ in self.told]

    async def until(self, what: Callable[[], object]) -> None:
        """Wait for it."""
        async with asyncio.timeout(20):
            while not what():
                await asyncio.sleep(0.01)


def proof(state: Path, **known: object) -> VerificationResult:
    """What the log is."""
    walk = LogVerifier(signing_key.proves, live=signing_key.seen(state), **known)  # type: ignore[arg-type] # passed on
    with AuditReader(state / FILE) as reader:
        walk.read(reader.lines())
    return walk.end()


async def test_rows_are_sealed_by_number_by_time_and_when_nothing_happens(tmp_path: Path) -> None:
    """Five rows at once, one row after a while, and a heartbeat; each by a key of its own, and the anchors are true."""
    one = Sealing(tmp_path, CheckpointTerms(rows=5, after=3600.0, heartbeat=3600.0))
    one.write(5)
    await one.until(lambda: one.names() == [checkpoint.KEY, checkpoint.SEALED])
    one.terms = CheckpointTerms(rows=5, after=0.05, heartbeat=3600.0)
    one.write(1)
    await one.until(lambda: len(one.told) == 3)
    one.terms = CheckpointTerms(rows=5, after=3600.0, heartbeat=0.05)
    one.write(1)  # it looks at the terms again when something happens
    await one.until(lambda: len(one.told) >= 5)
    one.terms = OFTEN
    await one.recorder.close()
    await asyncio.sleep(0)
    first = str(one.told[0][0].fields["key"])
    found = proof(tmp_path, keys=[first], anchors=[anchor for _, anchor in one.told])
    assert found.good, found.as_json()
    assert (found.unsealed, found.anchored) == (0, found.last)
    keys = [event.fields["key"] for event, _ in one.told[1:]]
    assert len(set(keys)) == len(keys) == found.lineages[0].epochs
    assert not one.recorder.sealer.overdue


async def test_a_restart_goes_on_with_the_key_that_was_announced(tmp_path: Path) -> None:
    """One line of keys through three lives; on the disk there are never more than the next two."""
    first = ""
    for _ in range(3):
        one = Sealing(tmp_path)
        one.write(7)
        await one.recorder.close()
        await asyncio.sleep(0)
        first = first or str(one.told[0][0].fields["key"])
        assert len(list((tmp_path / DIRECTORY).iterdir())) <= 2
    found = proof(tmp_path, keys=[first])
    assert found.good, found.as_json()
    assert (len(found.lineages), found.unsealed) == (1, 0)


async def test_what_a_checkpoint_promised_is_kept_though_the_setting_changes(tmp_path: Path) -> None:
    """A longer heartbeat begins with the checkpoint that says so: nobody sees a silence."""
    one = Sealing(tmp_path, CheckpointTerms(rows=1, after=0.01, heartbeat=1.0))
    one.write(1)
    await one.until(lambda: checkpoint.SEALED in one.names())
    one.terms = CheckpointTerms(rows=100, after=3600.0, heartbeat=3600.0)
    count = len(one.told)
    await one.until(lambda: len(one.told) > count)
    assert one.told[-1][0].fields["within"] == 3600
    await one.recorder.close()


async def test_a_lost_key_begins_a_new_line_and_says_so(tmp_path: Path) -> None:
    """Whoever deletes the newest rows cannot go on in the old name: that the log is behind its key is said as well."""
    one = Sealing(tmp_path)
    one.write(6)
    await one.recorder.close()
    before = (tmp_path / FILE).read_bytes()
    one = Sealing(tmp_path)
    one.write(6)
    await one.until(lambda: checkpoint.SEALED in one.names())
    one.write(6)
    await one.until(lambda: one.names().count(checkpoint.SEALED) > 1)
    await one.recorder.close()
    for name in (FILE, f"{FILE}-wal", f"{FILE}-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / FILE).write_bytes(before)  # the old database put back
    behind = proof(tmp_path).completeness.faults
    assert "checkpoints that this machine signed are missing" in behind[0].what
    one = Sealing(tmp_path)
    one.write(1)
    await one.recorder.close()
    await asyncio.sleep(0)
    key = next(event for event, _ in one.told if event.name == checkpoint.KEY)
    assert key.fields["reason"] == "lost"
    assert "checkpoints may be missing" in str(key.fields["detail"])
    found = proof(tmp_path)
    assert found.good, "what it says of itself is in the rows now"
    assert [line.reason for line in found.lineages] == ["init", "lost"]


async def test_forwards_go_on_while_nothing_can_be_sealed(tmp_path: Path) -> None:
    """Keys that cannot be made hold up no row: it is told, tried again, and the checkpoint says why it is late."""
    (tmp_path / DIRECTORY).write_text("in the way")
    one = Sealing(tmp_path, CheckpointTerms(rows=5, after=0.05, heartbeat=0.5))
    sealer = one.recorder.sealer
    one.write(50)
    answered: list[str] = []
    one.recorder.opening(one.relay.opened(one.relay.connect()), answered.append)
    await one.until(lambda: answered and sealer.problem)
    assert answered == [""]
    assert not one.recorder.failing
    assert "Not a directory" in sealer.problem
    (tmp_path / DIRECTORY).unlink()
    await one.until(lambda: checkpoint.SEALED in one.names())
    late = next(event for event, _ in one.told if event.name == checkpoint.SEALED)
    assert "Not a directory" in str(late.fields["detail"])
    assert (late.fields["open"], sealer.problem) == (1, "")
    await one.recorder.close()
    assert proof(tmp_path).good


async def test_a_key_that_others_can_read_signs_nothing(tmp_path: Path) -> None:
    """It is told with the file's name; made right, it goes on."""
    one = Sealing(tmp_path)
    one.write(1)
    await one.recorder.close()
    files = list((tmp_path / DIRECTORY).iterdir())
    for file in files:
        file.chmod(0o644)
    one = Sealing(tmp_path)
    one.write(1)
    await one.until(lambda: one.recorder.sealer.problem)
    assert "can be read by others" in one.recorder.sealer.problem
    for file in files:
        file.chmod(0o600)
    await one.until(lambda: checkpoint.SEALED in one.names())
    await one.recorder.close()
    assert len(proof(tmp_path).lineages) == 1


def test_a_crash_at_any_point_of_sealing_continues(tmp_path: Path) -> None:
    """Before every touch of the disk once: nothing is torn, one line of keys goes on, no old key is left."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.serve.crashes", str(tmp_path)],
        cwd=Path(__file__).parents[4],
        capture_output=True,
        text=True,
        timeout=100,
    )
    lives = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stderr
    assert [life["died"] for life in lives] == [True] * (len(lives) - 1) + [False]
    assert len(lives) > 20
    for number, life in enumerate(lives, 1):
        for when in ("torn", "whole"):
            assert life[when]["integrity"]["faults"] == [], (number, when)
            assert life[when]["authenticity"]["faults"] == [], (number, when)
        # a key that was made and not yet announced looks like missing rows; the next start announces it
        faults = [fault["what"] for fault in life["torn"]["completeness"]["faults"]]
        assert faults in ([], ["the last row; this machine has a key to sign with, and no row announces it"]), number
        assert (life["again"], life["whole"]["ok"], life["whole"]["unsealed"]) == (0, True, 0), (number, life["whole"])
        assert [key["reason"] for key in life["whole"]["keys"]] == ["init"], (number, life["whole"])
        assert life["files"] == 2, number


@pytest.mark.slow
def test_a_real_relay_seals_through_restart_and_kill(tmp_path: Path) -> None:
    """`audit verify` with the first key, and with every anchor that was written out, finds nothing wrong."""
    settings = "audit: {seal_rows: 5, seal_after: 1s, anchors: " + str(tmp_path / "anchors") + "}\n"
    with running(tmp_path, settings=settings, by_systemd=True) as one:
        wait_for((tmp_path / "anchors").exists, "no anchor came")
        key = json.loads(one.ctl("audit", "search", "--event", "audit.key", "--json"))["key"]
        one.restart()
        wait_for(lambda: len(one.rows("server.started")) == 2, "the start is not on record")
        one.kill_supervisor()
        one.start()
        count = len((tmp_path / "anchors").read_text().splitlines())
        wait_for(lambda: len((tmp_path / "anchors").read_text().splitlines()) > count, "nothing is sealed any more")
        found = json.loads(one.ctl("audit", "verify", "--key", key, "--anchor", str(tmp_path / "anchors"), "--json"))
        assert found["ok"], found
        assert len(found["keys"]) == 1
        assert found["anchored"] >= found["sealed"] - 5
        assert "a crash" in str(found["completeness"]["notes"])

"""Group commit: what is durable when, and what happens while the database cannot be written."""

import asyncio
import contextlib
import itertools
import random
import sqlite3
import subprocess
from functools import partial
from pathlib import Path

import pytest

from relay.core.audit.event import Event
from relay.core.audit.log_verifier import LogVerifier
from relay.core.histogram import Histogram
from relay.core.ids import Ids
from relay.errors import StoreUnavailable
from relay.serve.supervisor.audit.group_commit import NARROW, GroupCommit
from relay.store import signing_key
from relay.store.preauth_counters import AttemptCount
from relay.store.reader import AuditReader
from relay.store.writer import FILE

IDS = Ids(1)
NOW = 1_790_000_000_000_000


def event(name: str = "server.started", **fields: str | int) -> Event:
    """An event with an id of its own."""
    return Event(IDS.make(NOW), NOW, name, {"version": "0", **fields})


def opening(number: int) -> Event:
    """An opening row."""
    fields: dict[str, str | int] = {
        "forward": f"f{number}",
        "connection": "c",
        "person": "alice",
        "fingerprint": "SHA256:x",
        "client": "192.0.2.1",
        "asked": "remote:22",
        "zone": "office",
        "address": "192.168.1.201",
        "port": 22,
    }
    return Event(IDS.make(NOW), NOW, "forward.opened", fields)


async def answered(recorder: GroupCommit, one: Event, *, is_opening: bool = True) -> str:
    """What the recorder says to a row, "" when it is durable."""
    done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    (recorder.opening if is_opening else recorder.note)(one, done.set_result)
    async with asyncio.timeout(20):
        return await done


def rows(path: Path) -> list[str]:
    """The ids of all rows, but for those by which the log is sealed."""
    with AuditReader(path) as reader:
        return [row.event.id for row in reader.after(0, 10_000) if not row.event.name.startswith("audit.")]


async def test_an_answer_means_that_the_row_can_be_read(tmp_path: Path) -> None:
    """When an opening is answered, another process can read its row; the journal is told afterwards."""
    written: list[Event] = []
    recorder = GroupCommit(tmp_path / FILE, "n", written.extend)
    recorder.start()
    one = opening(1)
    assert await answered(recorder, one) == ""
    assert rows(tmp_path / FILE) == [one.id]
    assert written == [one]
    await recorder.close()


async def test_many_at_once_are_all_answered_in_order(tmp_path: Path) -> None:
    """A thousand openings at once become a few transactions, each answered once, in their order."""
    recorder = GroupCommit(tmp_path / FILE, "n", lambda events: None)
    recorder.start()
    events = [opening(number) for number in range(1000)]
    assert set(await asyncio.gather(*(answered(recorder, one) for one in events))) == {""}
    assert rows(tmp_path / FILE) == [one.id for one in events]
    await recorder.close()


@pytest.mark.slow
async def test_while_the_database_is_locked_openings_are_refused_and_the_rest_is_kept(tmp_path: Path) -> None:
    """A database that cannot be written refuses openings; closings are kept and written when it can be again."""
    recorder = GroupCommit(tmp_path / FILE, "n", lambda events: None)
    recorder.start()
    assert await answered(recorder, opening(1)) == ""
    blocker = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    blocker.execute("BEGIN EXCLUSIVE")  # like a disk that takes nothing
    refusal = await answered(recorder, opening(2))
    assert refusal
    closing = event("forward.closed", forward="f1", reason="client-closed", sent=1, received=2, duration=3)
    kept = asyncio.create_task(answered(recorder, closing, is_opening=False))
    await asyncio.sleep(0)
    blocker.execute("ROLLBACK")
    blocker.close()
    assert await kept == ""
    assert recorder.failing == ""
    assert closing.id in rows(tmp_path / FILE)
    assert await answered(recorder, opening(3)) == ""
    await recorder.close()


@pytest.mark.slow
async def test_it_is_found_out_without_rows_whether_they_could_be_written(tmp_path: Path) -> None:
    """A probe tells that the database cannot be written; once it can, that is found out with nobody writing."""
    commits = Histogram()
    recorder = GroupCommit(tmp_path / FILE, "n", lambda events: None, commits)
    recorder.start()
    assert await answered(recorder, event(), is_opening=False) == ""
    assert commits.cumulative()[-1] == 1
    blocker = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    blocker.execute("BEGIN EXCLUSIVE")
    recorder.probe()
    async with asyncio.timeout(20):
        while not recorder.failing:
            await asyncio.sleep(0.01)
        assert await answered(recorder, opening(1)) == recorder.failing
        blocker.execute("ROLLBACK")
        blocker.close()
        while recorder.failing:
            await asyncio.sleep(0.01)
    assert await answered(recorder, opening(2)) == ""
    assert commits.cumulative()[-1] == 2
    await recorder.close()


async def test_a_row_that_cannot_be_stored_does_not_stop_the_others(tmp_path: Path) -> None:
    """A row of a kind that the store cannot take is left out, said, and its neighbours are durable."""
    recorder = GroupCommit(tmp_path / FILE, "n", lambda events: None)
    recorder.start()
    good, bad = event(), Event(IDS.make(NOW), NOW, "server.started", {"version": object()})  # type: ignore[dict-item]
    answers = await asyncio.gather(
        answered(recorder, bad, is_opening=False), answered(recorder, good, is_opening=False)
    )
    assert answers == ["", ""]
    assert rows(tmp_path / FILE) == [good.id]
    assert recorder.lost == 1
    await recorder.close()


async def test_a_row_that_cannot_be_stored_speaks_for_itself_alone(tmp_path: Path) -> None:
    """Of three openings in one group the one that the store cannot take is refused, the others are durable and told."""
    recorder = GroupCommit(tmp_path / FILE, "n", lambda events: None)
    events = [opening(number) for number in range(3)]
    broken = Event(events[1].id, events[1].time, events[1].name, {**events[1].fields, "port": object()})  # type: ignore[dict-item]  # no field may be one
    waiting = [asyncio.ensure_future(answered(recorder, one)) for one in (events[0], broken, events[2])]
    await asyncio.sleep(0)  # all three are in the queue before the thread looks
    recorder.start()
    assert await asyncio.gather(*waiting) == ["", "internal error", ""]
    assert rows(tmp_path / FILE) == [events[0].id, events[2].id]
    assert recorder.lost == 1
    assert recorder.failing == ""
    await recorder.close()


@pytest.mark.system
async def test_on_a_full_disk_ends_are_recorded_and_nobody_is_let_in(tmp_path: Path) -> None:
    """The ballast makes room for closing and narrowing rows; openings are refused, other rows and strangers wait until
    there is room for a new one, and then nothing was lost."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "relay-test", disk], check=True)
    recorder = GroupCommit(disk / FILE, "n", lambda events: None)
    try:
        recorder.start()
        opened = [opening(number) for number in range(200)]
        assert set(await asyncio.gather(*(answered(recorder, one) for one in opened))) == {""}
        assert recorder.has_ballast
        filler = disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:  # the keys of checkpoints take and give back a page meanwhile
                file.write(b"x" * 4096)
        waiting = [event("login.succeeded", detail="x" * 900) for _ in range(2000)]
        logins = [asyncio.ensure_future(answered(recorder, one, is_opening=False)) for one in waiting]
        async with asyncio.timeout(20):
            while recorder.failing != NARROW:
                await asyncio.sleep(0.01)
        assert not recorder.has_ballast
        assert await answered(recorder, opening(1000)) == NARROW
        closings = [
            event("forward.closed", forward=f"f{number}", reason="client-closed", detail="x" * 1000)
            for number in range(200)
        ]
        ends = [*closings, event("key.revoked", fingerprint="SHA256:x")]
        assert set(await asyncio.gather(*(answered(recorder, one, is_opening=False) for one in ends))) == {""}
        assert {one.id for one in ends} <= set(rows(disk / FILE))
        with pytest.raises(StoreUnavailable, match="the disk is full"):
            await recorder.run_in_writer(lambda writer: writer.room())
        recorder.strangers((AttemptCount(1, "198.51.100.0/24", "no-key", 1),))
        assert recorder.failing == NARROW
        filler.unlink()
        assert set(await asyncio.gather(*logins)) == {""}
        assert await answered(recorder, opening(1001)) == ""
        assert recorder.has_ballast
        assert len(rows(disk / FILE)) == len(opened) + len(waiting) + len(ends) + 1
        assert {one.id for one in waiting} <= set(rows(disk / FILE))
        await recorder.close()
        walk = LogVerifier(signing_key.proves, live=signing_key.seen(disk))
        with AuditReader(disk / FILE) as reader:
            walk.read(reader.lines())
        found = walk.end()
        assert found.integrity.state == "ok", "sealing went on where it was interrupted"
        assert (found.authenticity.faults, len(found.lineages), found.unsealed) == ([], 1, 0)
    finally:
        await recorder.close()
        subprocess.run(["umount", disk], check=True)


async def test_a_question_is_answered_between_rows(tmp_path: Path) -> None:
    """What the thread is asked it answers to the asker; what goes wrong is the asker's, and stops no forward."""
    recorder = GroupCommit(tmp_path / FILE, "n", lambda events: None)
    recorder.start()
    assert await recorder.run_in_writer(lambda writer: writer.open_count()) == 0
    with pytest.raises(StoreUnavailable, match="not the one that was archived"):
        await recorder.run_in_writer(lambda writer: writer.forget(7, "0" * 64, 1))
    with pytest.raises(ZeroDivisionError):
        await recorder.run_in_writer(lambda writer: 1 // 0)
    assert recorder.failing == ""
    assert await answered(recorder, opening(1)) == ""
    await recorder.close()


async def test_many_openings_at_once_are_answered_in_one_turn_of_the_loop(tmp_path: Path) -> None:
    """Each opening is acknowledged once; while rows cannot be written, an opening is refused with the reason."""
    recorder = GroupCommit(tmp_path / FILE, "n", lambda events: None)
    told: list[str] = []
    for number in range(100):
        recorder.opening(opening(number), told.append)
    recorder.start()
    async with asyncio.timeout(20):
        while len(told) < 100:
            await asyncio.sleep(0.001)
    assert set(told) == {""}
    recorder.failing = "the disk is gone"
    recorder.opening(opening(101), told.append)
    assert told[100:] == ["the disk is gone"]
    await recorder.close()


async def test_an_opening_does_not_carry_the_ends_of_others(tmp_path: Path) -> None:
    """Ends wait for each other, not long; a log-in's row is written with the opening that follows it, before it."""
    recorder = GroupCommit(tmp_path / FILE, "n", lambda events: None)
    recorder.start()
    assert await answered(recorder, opening(1)) == ""
    ends = [Event(IDS.make(NOW), NOW, "forward.closed", {"forward": "f1", "reason": "client-closed"})]
    ends.append(Event(IDS.make(NOW), NOW, "connection.closed", {"connection": "c", "reason": "client-closed"}))
    login = event("login.succeeded")
    ended = [asyncio.ensure_future(answered(recorder, one, is_opening=False)) for one in ends]
    await asyncio.sleep(0)
    entered = asyncio.ensure_future(answered(recorder, login, is_opening=False))
    await asyncio.sleep(0)
    two = opening(2)
    assert await answered(recorder, two) == ""
    assert await asyncio.gather(entered, *ended) == ["", "", ""]
    found = rows(tmp_path / FILE)[1:]
    assert sorted(found) == sorted([login.id, two.id, *(one.id for one in ends)])
    assert found.index(login.id) + 1 == found.index(two.id)
    assert [one for one in found if one in {end.id for end in ends}] == [end.id for end in ends]
    await recorder.close()


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_comes_when_each_is_told_once_and_openings_when_they_are_there(
    tmp_path: Path, seed: int
) -> None:
    """Openings, ends, log-ins and errands in any order and company, some while another holds the database."""
    chance, written, number = random.Random(seed), list[Event](), itertools.count()
    recorder = GroupCommit(tmp_path / FILE, "n", written.extend)
    recorder.start()
    reader = AuditReader(tmp_path / FILE)
    other = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    asked: dict[str, list[str]] = {}
    opened: list[str] = []

    def tell(id: str, how: str) -> None:
        asked[id].append(how if how or reader.by_id(id) else "acknowledged before it was there")

    for _ in range(80):
        one = opening(next(number)) if chance.random() < 0.5 else event("login.succeeded")
        if opened and chance.random() < 0.4:
            forward = opened.pop(chance.randrange(len(opened)))
            one = Event(IDS.make(NOW), NOW, "forward.closed", {"forward": forward, "reason": "client-closed"})
        asked[one.id] = []
        if one.name == "forward.opened":
            opened.append(str(one.fields["forward"]))
            recorder.opening(one, partial(tell, one.id))
        else:
            recorder.note(one, partial(tell, one.id))
        match chance.randrange(8):
            case 0:
                recorder.probe()
            case 1:
                other.execute("ROLLBACK" if other.in_transaction else "BEGIN IMMEDIATE")
            case 2 | 3 | 4:
                await asyncio.sleep(chance.choice([0, 0.001, 0.005, 0.025]))
            case _:
                pass
    other.close()
    async with asyncio.timeout(20):
        while len(written) < len(asked):
            await asyncio.sleep(0.001)
    await recorder.close()
    reader.close()
    assert asked == {id: [""] for id in asked}
    with AuditReader(tmp_path / FILE) as whole:
        found = [row for row in whole.after(0, 1000) if not row.event.name.startswith("audit.")]
    assert sorted(row.event.id for row in found) == sorted(asked)

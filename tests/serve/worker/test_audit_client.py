"""The worker's client of the audit log, with the supervisor's end of the link read as bytes."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from relay.serve.ipc import IpcLink
from relay.serve.worker.audit_client import MAX_UNACKNOWLEDGED, AuditClient, Busy

OWN = {"forward": "f1", "port": 22}


@asynccontextmanager
async def link() -> AsyncIterator[tuple[IpcLink, socket.socket]]:
    """A link to a supervisor, and the supervisor's end of it."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    made = IpcLink(ours, lambda *_: None, lambda _: None)
    with theirs:
        yield made, theirs
        made.close()
        await asyncio.sleep(0)


def client(connected: IpcLink | None = None) -> AuditClient:
    """A client whose clock stands at 7 and which numbers its rows."""
    numbers = iter(range(1 << 30))
    made = AuditClient(lambda: f"n{next(numbers)}", lambda: 7)
    made.link = connected
    return made


async def received(sock: socket.socket) -> list[dict[str, Any]]:
    """All messages that have been sent by now."""
    await asyncio.sleep(0)  # a link sends at the end of the turn
    data, found = sock.recv(1 << 20), []
    while data:
        size = int.from_bytes(data[:4], "big")
        found.append(json.loads(data[4 : 4 + size]))
        data = data[4 + size :]
    return found


async def test_the_supervisor_gets_the_opening_row_and_its_answer_ends_the_wait() -> None:
    """The row has the id, the time and all fields; a second answer is ignored."""
    async with link() as (ours, theirs):
        reports = client(ours)
        row = reports.send_opening("f1", {"person": "alice", "login": 'a"b\u20ac', **OWN})
        fields = {"person": "alice", "login": 'a"b\u20ac', **OWN}
        assert await received(theirs) == [{"t": "open", "e": ["f1", 7, "forward.opened", fields]}]
        reports.opening_answered("f1", "")
        await row.durable()
        reports.opening_answered("f1", "too late")


async def test_an_opening_row_without_an_answer_is_refused_but_may_have_been_written() -> None:
    """After `timeout` the opening is given up, and its row is not taken for one that was never written."""
    async with link() as (ours, _):
        reports = client(ours)
        reports.timeout = 0.01
        with pytest.raises(Busy, match="not durable within") as busy:
            await reports.send_opening("f1", OWN).durable()
        assert not busy.value.refused


async def test_an_unanswered_opening_row_is_resent_to_the_next_supervisor() -> None:
    """During a hand-over the next supervisor gets the same row; without a supervisor there is no opening at all."""
    reports = client()
    async with link() as (first, theirs):
        reports.link = first
        reports.expect_successor(10)
        row = reports.send_opening("f1", OWN)
        sent = await received(theirs)
    reports.disconnected()
    async with link() as (second, theirs):
        reports.resend(second)
        assert await received(theirs) == sent
        reports.opening_answered("f1", "")
        await row.durable()
    reports.disconnected()
    with pytest.raises(Busy, match="no supervisor"):
        reports.send_opening("f2", OWN)


async def test_the_loss_of_the_supervisor_ends_the_wait() -> None:
    """Nothing is known of the row then, so it is not counted as refused."""
    async with link() as (ours, _):
        reports = client(ours)
        row = reports.send_opening("f1", OWN)
        reports.disconnected()
        with pytest.raises(Busy, match="supervisor-lost") as busy:
            await row.durable()
        assert not busy.value.refused


async def test_a_refusal_of_a_resent_row_does_not_prove_that_it_was_not_written() -> None:
    """The former supervisor may have recorded it before it went, so it gets a closing row; a new row does not."""
    reports = client()
    async with link() as (first, _):
        reports.link = first
        reports.expect_successor(10)
        rows = {number: reports.send_opening(number, OWN) for number in ("f1", "f2")}
    reports.disconnected()
    async with link() as (second, _):
        reports.resend(second)
        rows["f3"] = reports.send_opening("f3", OWN)
        reports.opening_answered("f1", "the disk is full")
        for number in ("f2", "f3"):
            reports.opening_answered(number, "person alice has 1 forwards, which is the limit", "person")
        refused = {}
        for number, row in rows.items():
            with pytest.raises(Busy) as busy:
                await row.durable()
            refused[number] = busy.value.refused, busy.value.limit
        assert refused == {"f1": (False, ""), "f2": (False, "person"), "f3": (True, "person")}


async def test_a_cancelled_opening_leaves_nothing_behind() -> None:
    """A client may leave in the moment in which a limit refuses it, as often as it likes: no memory is kept."""
    async with link() as (ours, _):
        reports = client(ours)
        waiting = asyncio.create_task(reports.send_opening("f1", OWN).durable())
        await asyncio.sleep(0)
        reports.opening_answered("f1", "person alice has 1 forwards, which is the limit", "person")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not reports._openings


async def test_events_are_kept_until_they_are_durable() -> None:
    """Every event that is not acknowledged is resent, oldest first; an acknowledged one is forgotten."""
    reports = client()
    reports.note("login.succeeded", {"person": "alice"})
    reports.note("forward.closed", {"forward": "f1"}, "own-id")
    async with link() as (ours, theirs):
        reports.resend(ours)
        assert [message["e"][0] for message in await received(theirs)] == ["n0", "own-id"]
        reports.acknowledged(["n0"])
        assert reports.unacknowledged_events() == [["own-id", 7, "forward.closed", {"forward": "f1"}]]
        assert reports.unacknowledged == 1


async def test_events_beyond_the_bound_are_counted_and_the_loss_is_recorded() -> None:
    """Closing rows are always kept; of the others the number that was lost becomes a row of its own."""
    reports = client()
    for _ in range(MAX_UNACKNOWLEDGED + 3):
        reports.note("forward.denied", {})
    reports.note("forward.closed", {}, "closing")
    assert reports.unacknowledged == MAX_UNACKNOWLEDGED + 1
    async with link() as (ours, _):
        reports.link = ours
        reports.acknowledged([f"n{number}" for number in range(MAX_UNACKNOWLEDGED)])
    lost = [fields["count"] for _, _, name, fields in reports.unacknowledged_events() if name == "audit.lost"]
    assert lost == [3]


async def test_tracebacks_are_bounded(capsys: pytest.CaptureFixture[str]) -> None:
    """A bug that a client can trigger at will does not flood the journal."""
    reports = client()
    for number in range(20):
        reports.report_bug(ValueError(f"number {number}"))
    assert capsys.readouterr().err.count("a bug of ours") == 6

"""relay.serve.worker.audit_client: the worker's end of an opening row."""

import asyncio
import json
import socket

import pytest

from relay.serve.ipc import IpcLink, inside
from relay.serve.worker.audit_client import AuditClient, Busy


def reports() -> tuple[AuditClient, socket.socket]:
    """A worker's reports, and the supervisor's end of their link."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    made = AuditClient(lambda: "n", lambda: 7)
    made.link = IpcLink(ours, lambda *_: None, lambda _: None)
    return made, theirs


async def close(made: AuditClient, theirs: socket.socket) -> None:
    """Let go of both ends."""
    assert made.link is not None
    made.link.close()
    theirs.close()
    await asyncio.sleep(0)


async def test_the_row_is_under_way_before_anything_else_is_done() -> None:
    """When `ask_row` returns the supervisor has it, the fields of the connection before the forward's own."""
    made, theirs = reports()
    answer = made.ask_row("f1", inside({"person": "alice", "login": 'a"b\u20ac'}), {"forward": "f1", "port": 22})
    message = json.loads(theirs.recv(1 << 16)[4:])
    fields = {"person": "alice", "login": 'a"b\u20ac', "forward": "f1", "port": 22}
    assert message == {"t": "open", "e": ["f1", 7, "forward.opened", fields]}
    made.answered("f1", "")
    await made.row_durable("f1", answer)
    made.answered("f1", "too late")  # nobody waits any more
    await close(made, theirs)


async def test_an_answer_that_does_not_come_refuses_but_the_row_may_be_there() -> None:
    """After `timeout` the opening is given up, and so is not taken for one that was never written."""
    made, theirs = reports()
    made.timeout = 0.01
    with pytest.raises(Busy, match="not durable within") as busy:
        await made.row_durable("f1", made.ask_row("f1", '"a":1', {"b": 2}))
    assert not busy.value.refused
    await close(made, theirs)


async def test_a_row_that_nobody_answered_is_sent_again_as_it_was() -> None:
    """A supervisor that hands over: the next one gets the same frame; without one there is no opening at all."""
    made, theirs = reports()
    made.expect_successor(10)
    answer = made.ask_row("f1", '"a":1', {"b": 2})
    first = theirs.recv(1 << 16)
    await close(made, theirs)
    made.disconnected()
    other, theirs = reports()
    assert other.link is not None
    made.resend(other.link)
    assert theirs.recv(1 << 16) == first
    made.answered("f1", "")
    await made.row_durable("f1", answer)
    made.disconnected()
    with pytest.raises(Busy, match="no supervisor"):
        made.ask_row("f2", '"a":1', {"b": 2})
    await close(other, theirs)


async def test_who_refuses_a_row_that_was_sent_twice_speaks_for_himself_alone() -> None:
    """The former supervisor may have recorded it before it went: it is closed, whatever the next one has against it."""
    made, theirs = reports()
    made.expect_successor(10)
    asked = {number: made.ask_row(number, '"a":1', {"b": 2}) for number in ("f1", "f2")}
    await close(made, theirs)
    made.disconnected()
    other, theirs = reports()
    assert other.link is not None
    made.resend(other.link)
    asked["f3"] = made.ask_row("f3", '"a":1', {"b": 2})
    made.answered("f1", "the disk is full")
    for number in ("f2", "f3"):
        made.answered(number, "person alice has 1 forwards, which is the limit", "person")
    refused = {}
    for number, answer in asked.items():
        with pytest.raises(Busy) as busy:
            await made.row_durable(number, answer)
        refused[number] = busy.value.refused, busy.value.limit
    assert refused == {"f1": (False, ""), "f2": (False, "person"), "f3": (True, "person")}
    await close(other, theirs)


async def test_an_opening_that_is_given_up_leaves_nothing_behind() -> None:
    """Its client may go in the moment in which a limit has refused it, as often as it likes."""
    made, theirs = reports()
    waiting = asyncio.create_task(made.row_durable("f1", made.ask_row("f1", '"a":1', {"b": 2})))
    await asyncio.sleep(0)
    made.answered("f1", "person alice has 1 forwards, which is the limit", "person")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not made._limited
    assert not made._openings
    await close(made, theirs)

"""A worker's answers to `list` and `kill`, over a real link."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncssh

from relay.serve.worker import list_and_kill
from relay.serve.worker.authentication import Authentication
from relay.serve.worker.forward.context import WorkerContext
from relay.serve.worker.preauth_scheduler import PreauthScheduler
from relay.serve.worker.session import Client, Session
from tests.serve.worker import parts


@dataclass
class Stage:
    """Alice's session with some forwards, and a client that has not logged in."""

    context: WorkerContext
    session: Session
    connections: dict[str, Authentication | Session]
    supervisor: parts.Supervisor

    async def ask(self, answered_by: str, **question: Any) -> list[dict[str, Any]]:
        """The slices of the answer."""
        answer = list_and_kill.kill if answered_by == "killed" else list_and_kill.listing
        link = self.context.audit.link
        assert link is not None
        await answer(link, {"n": 7, **question}, self.connections, self.context.audit, "w1")
        await parts.until(lambda: any(message["last"] for message in self.supervisor.of(answered_by)))
        return self.supervisor.of(answered_by)


@asynccontextmanager
async def stage(forwards: int = 2) -> AsyncIterator[Stage]:
    """The forwards are being opened: their rows are not answered."""
    loop = asyncio.get_running_loop()
    with parts.context(parts.allow(parts.HERE)) as context, parts.connection() as connection:
        async with parts.supervisor(context) as supervisor:
            supervisor.answer = lambda forward: None
            session = parts.session(context, connection)
            unknown = Authentication(
                context,
                PreauthScheduler(loop.time, loop.call_soon),
                Client("c2", parts.CLIENT.source, 4243, 0),
                authenticated=lambda session: None,
                ended=lambda *what: None,
            )
            tasks = [asyncio.ensure_future(session.forward(b"127.0.0.1", 9, session.lend())) for _ in range(forwards)]
            await parts.until(lambda: all(forward.id for forward in session.held()))
            try:
                yield Stage(context, session, {session.id: session, unknown.id: unknown}, supervisor)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)


async def test_everything_open_is_listed_in_bounded_slices() -> None:
    """Each message has 64 rows at most; connections before log-in are listed without a person."""
    async with stage(forwards=150) as one:
        slices = await one.ask("listing")
        assert [message["last"] for message in slices] == [False] * (len(slices) - 1) + [True]
        assert max(len(message["connections"]) + len(message["forwards"]) for message in slices) <= 64
        connections = [row for message in slices for row in message["connections"]]
        assert [(row["c"], row["state"], row["person"]) for row in connections] == [
            ("c1", "open", "alice"),
            ("c2", "log-in", ""),
        ]
        forwards = [row for message in slices for row in message["forwards"]]
        assert {row["f"] for row in forwards} == {forward.id for forward in one.session.held()}
        assert {(row["state"], row["asked"]) for row in forwards} == {("opening", "127.0.0.1:9")}


async def test_a_dry_run_names_what_would_end_and_ends_nothing() -> None:
    """A person's whole connection is named with its forwards."""
    async with stage() as one:
        (answer,) = await one.ask("killed", kind="person", what="alice", dry=True)
        assert [(row["c"], row["whole"]) for row in answer["connections"]] == [("c1", True)]
        assert len(answer["forwards"]) == 2
        assert one.session._end == ""
        assert parts.rows(one.context, "connection.killed") == []


async def test_a_killed_person_is_recorded_with_the_administrator() -> None:
    """The connection ends; its row and those of its forwards say who ended it and why."""
    async with stage() as one:
        by = {"by_user": "root", "why": "left", "other": "dropped"}
        await one.ask("killed", kind="person", what="alice", by=by)
        (row,) = parts.rows(one.context, "connection.killed")
        assert (row["person"], row["forwards"], row["by_user"], row["why"]) == ("alice", 2, "root", "left")
        assert "other" not in row
        assert one.session._end == "killed"
        for message in one.supervisor.of("open"):
            one.supervisor.link.send({"t": "opened", "f": message["e"][0]})
        await parts.until(lambda: len(parts.rows(one.context, "forward.closed")) == 2)
        assert {(row["reason"], row["by_user"]) for row in parts.rows(one.context, "forward.closed")} == {
            ("killed", "root")
        }


async def test_one_forward_can_be_killed_by_its_id() -> None:
    """The other one and the connection go on."""
    async with stage() as one:
        first, second = one.session.held()
        (answer,) = await one.ask("killed", kind="id", what=first.id)
        assert [(row["c"], row["whole"]) for row in answer["connections"]] == [("c1", False)]
        assert [row["f"] for row in answer["forwards"]] == [first.id]
        assert (first._end is not None, second._end, one.session._end) == (True, None, "")


async def test_a_connection_before_log_in_can_be_killed_by_its_id() -> None:
    """It has no person and no forwards; the others are left alone."""
    async with stage() as one:
        await one.ask("killed", kind="id", what="c2")
        (row,) = parts.rows(one.context, "connection.killed")
        assert (row["connection"], row.get("person")) == ("c2", None)
        assert one.session._end == ""
        one.connections["c2"].connection_lost(asyncssh.ConnectionLost("killed"))


async def test_nothing_matches_another_key() -> None:
    """The answer is empty and ends."""
    async with stage() as one:
        (answer,) = await one.ask("killed", kind="key", what="SHA256:other")
        assert (answer["connections"], answer["forwards"], answer["last"]) == ([], [], True)

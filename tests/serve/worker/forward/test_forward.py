"""The path of one forward against a real target and a supervisor that answers as the test says."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncssh
import pytest

from relay.serve.authorizer import Revocation
from relay.serve.worker.forward.context import WorkerContext
from relay.serve.worker.forward.pipe import Pipe
from relay.serve.worker.session import Session
from tests.serve.worker import parts


@dataclass
class Stage:
    """A session, its supervisor, and a target that listens."""

    context: WorkerContext
    session: Session
    supervisor: parts.Supervisor
    listener: socket.socket

    @property
    def port(self) -> int:
        """The target's port."""
        return int(self.listener.getsockname()[1])

    def open(self, port: int | None = None) -> "asyncio.Task[Pipe]":
        """Ask for a forward to the target."""
        window = self.session.lend()
        return asyncio.ensure_future(self.session.forward(b"127.0.0.1", port or self.port, window))

    async def accepted(self) -> socket.socket:
        """The target's end of the connection."""
        sock, _ = await asyncio.get_running_loop().sock_accept(self.listener)
        sock.setblocking(False)
        return sock

    def closed(self) -> list[dict[str, Any]]:
        """The closing rows so far."""
        return parts.rows(self.context, "forward.closed")


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    """Alice may reach every port here."""
    with (
        parts.context(parts.allow(parts.HERE)) as context,
        parts.connection() as connection,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        listener.setblocking(False)
        async with parts.supervisor(context) as supervisor:
            yield Stage(context, parts.session(context, connection), supervisor, listener)


async def refusal(opening: "asyncio.Task[Pipe]") -> tuple[int, str]:
    """Code and text of the channel-open failure."""
    with pytest.raises(asyncssh.ChannelOpenError) as refused:
        await opening
    return refused.value.code, refused.value.reason


async def test_no_pipe_without_a_durable_row() -> None:
    """The target is connected meanwhile, but the channel is not confirmed before the supervisor has answered."""
    async with stage() as one:
        one.supervisor.answer = lambda forward: None
        opening = one.open()
        with await one.accepted():
            (message,) = one.supervisor.of("open")
            number, _, name, fields = message["e"]
            assert (name, fields["person"], fields["zone"], fields["port"]) == (
                "forward.opened",
                "alice",
                "here",
                one.port,
            )
            await asyncio.sleep(0.05)
            assert not opening.done()
            one.supervisor.link.send({"t": "opened", "f": number})
            pipe = await opening
            assert one.closed() == []
            pipe.abort("killed")
            assert [(row["forward"], row["reason"]) for row in one.closed()] == [(number, "killed")]


async def test_a_row_that_the_supervisor_refuses_has_no_closing_row() -> None:
    """The client learns which limit was reached; the target's connection is closed without a byte."""
    async with stage() as one:
        limit = "you have as many forwards open as one person may"
        one.supervisor.answer = lambda forward: {"t": "busy", "f": forward, "reason": "person: 1", "limit": "person"}
        code, text = await refusal(one.open())
        assert code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED
        assert limit in text
        assert one.closed() == []
        with await one.accepted() as target:
            assert await asyncio.get_running_loop().sock_recv(target, 1) == b""


async def test_a_row_that_is_late_is_closed() -> None:
    """It may have been written, so it gets a closing row; the client is asked to try again."""
    async with stage() as one:
        one.context.audit.timeout = 0.02
        one.supervisor.answer = lambda forward: None
        _, text = await refusal(one.open())
        assert "please try again" in text
        assert [row["reason"] for row in one.closed()] == ["busy"]


async def test_a_dial_that_fails_closes_the_row() -> None:
    """Nothing listens on the port: the client gets the reason in words, the row has the stable word."""
    async with stage() as one:
        with socket.create_server(("127.0.0.1", 0)) as other:
            free = int(other.getsockname()[1])
        code, text = await refusal(one.open(free))
        assert code == asyncssh.OPEN_CONNECT_FAILED
        assert "nothing listens on that port" in text
        assert [(row["reason"], row["sent"], row["received"]) for row in one.closed()] == [("target-refused", 0, 0)]


async def test_a_denied_target_is_neither_recorded_as_opened_nor_dialled() -> None:
    """There is one denied row, whose id the client gets, and no opening row."""
    async with stage() as one:
        parts.apply(one.context.authorizer)  # no rules
        code, text = await refusal(one.open())
        assert code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED
        (row,) = parts.rows(one.context, "forward.denied")
        assert (row["asked"], row["reason"]) == (f"127.0.0.1:{one.port}", "no-rule")
        assert "you may not reach that (id n" in text
        assert one.supervisor.of("open") == []


async def test_a_change_while_it_is_opened_is_decided_again() -> None:
    """The row is durable and the target connected, but the rule has gone: no byte flows, and the row is closed."""
    async with stage() as one:
        one.supervisor.answer = lambda forward: None
        opening = one.open()
        with await one.accepted() as target:
            parts.apply(one.context.authorizer)
            one.supervisor.link.send({"t": "opened", "f": one.supervisor.of("open")[0]["e"][0]})
            code, text = await refusal(opening)
            assert code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED
            assert "you may not reach that" in text
            assert [row["reason"] for row in one.closed()] == ["no-rule"]
            assert await asyncio.get_running_loop().sock_recv(target, 1) == b""


@pytest.mark.parametrize("connected", [False, True])
async def test_a_revocation_while_it_is_opened_is_told_and_recorded(connected: bool) -> None:
    """Also while the dial is under way: it is cancelled, and a socket that it still gives is closed."""
    async with stage() as one:
        one.supervisor.answer = lambda forward: None
        opening = one.open()
        await parts.until(lambda: one.supervisor.of("open"))
        target = await one.accepted() if connected else None
        (forward,) = one.session.held()
        forward.revoke(Revocation("killed", ""), {"by_user": "root"})
        forward.revoke(Revocation("no-rule", ""))  # the first one counts
        one.supervisor.link.send({"t": "opened", "f": forward.id})
        _, text = await refusal(opening)
        assert "the administrator has ended this" in text
        assert [(row["reason"], row["by_user"]) for row in one.closed()] == [("killed", "root")]
        if target is not None:
            assert await asyncio.get_running_loop().sock_recv(target, 1) == b""
            target.close()


async def test_a_client_that_goes_while_it_is_opened_leaves_a_closed_row() -> None:
    """The dial is abandoned, its socket closed, and the window given back."""
    async with stage() as one:
        one.supervisor.answer = lambda forward: None
        opening = one.open()
        with await one.accepted() as target:
            one.session.connection_lost(None)
            opening.cancel()  # as asyncssh does
            await refusal(opening)
            assert [row["reason"] for row in one.closed()] == ["connection-lost"]
            assert await asyncio.get_running_loop().sock_recv(target, 1) == b""
        assert one.context.limits.windows.lent == 0


async def test_a_failed_zone_ends_it_with_the_obstacle() -> None:
    """The closing row names what is wrong with the zone, for the operator."""
    async with stage() as one:
        opening = one.open()
        with await one.accepted():
            await opening
            (forward,) = one.session.held()
            forward.zone_failed("interface-missing", "lo has gone")  # type: ignore[arg-type]  # the word of the log
            (row,) = one.closed()
            assert (row["reason"], row["obstacle"], row["detail"]) == (
                "overlay-down",
                "interface-missing",
                "lo has gone",
            )
            forward.abort("connection-lost")
            assert len(one.closed()) == 1


async def test_a_bug_closes_the_row_and_frees_the_slot(capsys: pytest.CaptureFixture[str]) -> None:
    """An unexpected exception refuses this forward, and is reported; the connection has others."""
    async with stage() as one:
        one.session._context.limits.rates.acquire = None  # type: ignore[method-assign,assignment]  # breaks it
        _, text = await refusal(one.open())
        assert "please try again" in text
        assert [row["reason"] for row in one.closed()] == ["internal-error"]
        assert one.session.forwards == 0
        assert "a bug of ours" in capsys.readouterr().err

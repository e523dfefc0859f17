"""A session without a process: its limits, its denied rows, its revocation and its end."""

import asyncio
from dataclasses import replace

import asyncssh
import pytest

from relay.core.keys.keyring import Keyring
from relay.core.policy.model import Decision, Reason
from relay.serve.authorizer import Revocation
from relay.serve.worker.session import MAX_DENIED, MAX_REFUSED_KINDS, OTHERS, close_reason
from tests.serve.worker import parts

DENIED = Decision(reason=Reason.NO_RULE, detail="no rule allows it")


async def test_equal_denials_of_one_session_are_one_row_and_a_count() -> None:
    """The client gets the id of the first row each time; the number of repetitions is recorded at the end."""
    with parts.context() as context, parts.connection() as connection:
        session = parts.session(context, connection)
        first = session.record_denied("remote:22", DENIED)
        assert [session.record_denied("remote:22", DENIED) for _ in range(3)] == [first] * 3
        assert session.record_denied("remote:23", DENIED) != first
        assert len(parts.rows(context, "forward.denied")) == 2
        session.connection_lost(None)
        assert [row.get("count") for row in parts.rows(context, "forward.denied")] == [None, None, 3]


async def test_denials_of_a_scan_are_bounded() -> None:
    """A person with a valid key cannot fill the disk: beyond the bound different targets share one row."""
    with parts.context() as context, parts.connection() as connection:
        session = parts.session(context, connection)
        for number in range(MAX_DENIED + 50):
            session.record_denied(f"192.168.1.1:{number}", DENIED)
        rows = parts.rows(context, "forward.denied")
        assert len(rows) == MAX_DENIED + 1
        assert rows[-1]["asked"] == OTHERS


async def test_refused_requests_are_bounded_likewise() -> None:
    """Any number of different request names becomes a bounded number of rows."""
    with parts.context() as context, parts.connection() as connection:
        session = parts.session(context, connection)
        for number in range(MAX_REFUSED_KINDS + 50):
            text = session.refused("global", b"name-%d" % number)
            assert text.startswith("relay: only forwards are possible here (id ")
        assert len(parts.rows(context, "request.refused")) == MAX_REFUSED_KINDS + 1


async def test_a_shell_request_is_answered_with_what_may_be_reached() -> None:
    """`ssh relay` shows the person and the targets, not just a refusal."""
    with parts.context(parts.allow(parts.HERE)) as context, parts.connection() as connection:
        text = parts.session(context, connection).refused("channel", b"session")
        assert "you are logged in as alice" in text
        assert "you may reach: " in text


async def test_forwards_are_bounded_per_connection() -> None:
    """A forward counts from the request on, and no more once its coroutine is over or the connection lost."""
    with parts.context() as context, parts.connection() as connection:
        limits = replace(context.authorizer.settings.limits, forwards_per_connection=2)
        context.authorizer.settings = replace(context.authorizer.settings, limits=limits)
        session = parts.session(context, connection)
        opening = [session.forward(b"remote", 22, session.lend()) for _ in range(2)]
        assert not session.may_open()
        with pytest.raises(asyncssh.ChannelOpenError, match="no such host"):
            await opening[0]
        assert session.may_open()
        assert context.limits.windows.lent > 0
        session.connection_lost(None)
        assert (session.forwards, context.limits.windows.lent, session.held()) == (0, 0, ())
        opening[1].close()


async def test_a_session_whose_key_is_removed_is_revoked() -> None:
    """The forwards are revoked, the session ends, and no forward may be opened any more."""
    with parts.context() as context, parts.connection() as connection:
        session = parts.session(context, connection)
        session.check_key()
        assert session.may_open()
        opening = session.forward(b"remote", 22, session.lend())
        context.authorizer.keyring = Keyring()
        session.check_key()
        assert session._end == "key-unlisted"
        assert not session.may_open()
        assert session.held()[0]._end is not None
        opening.close()


async def test_the_end_of_a_session_is_one_row_with_the_first_reason() -> None:
    """A kill that is followed by the loss of the connection stays a kill."""
    ended: list[str] = []
    with parts.context() as context, parts.connection() as connection:
        session = parts.session(context, connection, ended)
        session.revoke(Revocation("killed", ""), {"by_user": "root"})
        session.end("server-stopped", "stopping")
        session.connection_lost(asyncssh.ConnectionLost("gone"))
        (row,) = parts.rows(context, "connection.closed")
        assert (row["person"], row["reason"], row["forwards"]) == ("alice", "killed", 0)
        assert ended == ["c1"]
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (None, "client-closed"),
        (asyncssh.ProtocolError("bad packet"), "protocol-error"),
        (asyncssh.ConnectionLost("client does not answer keepalives"), "client-silent"),
        (asyncssh.ConnectionLost("reset"), "client-gone"),
        (OSError("anything else"), "connection-lost"),
    ],
)
def test_the_reason_of_a_lost_connection_is_a_stable_word(error: Exception | None, reason: str) -> None:
    """What asyncssh reports becomes one of the words of the audit log."""
    assert close_reason(error) == reason

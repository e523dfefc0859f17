"""add-key and revoke-key beside a running relay: at once, and without a reload of the policy."""

import asyncio
from pathlib import Path

import asyncssh
import pytest

from tests.relay_process import Relay, make_key, relay


async def connect(one: Relay, person: str) -> asyncssh.SSHClientConnection:
    return await asyncssh.connect(
        "127.0.0.1",
        one.port,
        username=person,
        client_keys=[str(one.directory / person)],
        known_hosts=None,
        config=None,
        agent_path=None,
    )


async def test_a_key_gets_in_at_once_and_is_out_at_once(tmp_path: Path) -> None:
    """add-key lets the next log-in through, a half-edited policy notwithstanding; revoke-key ends the connection."""
    with relay(tmp_path) as one:
        make_key(tmp_path / "bob")
        with pytest.raises(asyncssh.PermissionDenied):
            await connect(one, "bob")
        one.policy("rules: [half", name="edited")
        said = await asyncio.to_thread(one.ctl, "add-key", "bob", str(tmp_path / "bob.pub"))
        assert "it is accepted from now on" in said
        client = await connect(one, "bob")
        said = await asyncio.to_thread(one.ctl, "revoke-key", "bob", "--reason", "gone")
        assert "it is revoked now" in said
        async with asyncio.timeout(10):
            await client.wait_closed()
        with pytest.raises(asyncssh.PermissionDenied):
            await connect(one, "bob")
        assert one.wait_row("key.added")["person"] == "bob"
        assert one.wait_row("key.revoked")["why"] == "gone"
        async with await connect(one, "alice"):
            pass  # the others are as they were

"""The running configuration: reload, start with a broken site, removed keys."""

import os
import signal
import time
from pathlib import Path

import asyncssh
import pytest

from relay.errors import InputRejected, SiteInvalid
from relay.serve.supervisor.policy.running_config import parse
from tests.relay_process import POLICY, Relay, echo_server, relay
from tests.serve.test_first_jump import connect

pytestmark = pytest.mark.slow  # each starts real processes

WITHOUT = POLICY.replace("allow: [alice]", "allow: [bob]")


async def opens(client: asyncssh.SSHClientConnection, port: int) -> bool:
    """Whether this connection may open a forward to remote now."""
    try:
        _, writer = await client.open_connection("remote", port)
    except asyncssh.ChannelOpenError:
        return False
    writer.close()
    return True


async def test_edits_take_effect_with_a_reload(tmp_path: Path) -> None:
    """A changed policy decides nothing before `reload`, and everything, for open connections too, after it."""
    with relay(tmp_path) as one, echo_server() as port:
        async with await connect(one) as client:
            one.policy(WITHOUT)
            assert await opens(client, port)
            assert "applied: policy" in one.ctl("reload")
            assert not await opens(client, port)
            assert one.wait_row("forward.denied")["reason"] == "no-rule"


async def test_a_broken_site_changes_nothing(tmp_path: Path) -> None:
    """`reload` of a site with a fault names file and line, exits 1, and the old policy stays in force."""
    with relay(tmp_path) as one, echo_server() as port:
        one.policy(WITHOUT + "  - {name: broken, alow: [alice]}\n")
        said = one.ctl("reload", status=1)
        assert "policies/main.yaml:" in said
        assert "allow" in said
        async with await connect(one) as client:
            assert await opens(client, port)
        assert "main.yaml" in one.wait_row("site.rejected")["detail"]


async def test_a_failing_expectation_is_not_applied(tmp_path: Path) -> None:
    """Expectations are judged before a policy becomes law."""
    with relay(tmp_path) as one:
        one.policy(WITHOUT + 'expect:\n  - {who: alice, to: "remote:2222", verdict: allow}\n')
        assert "expect" in one.ctl("reload", status=1).lower()


async def test_a_restart_with_a_broken_site_goes_on_with_what_was_applied(tmp_path: Path) -> None:
    """The last applied snapshot serves, shouted about, but keys that are gone from the files stay out."""
    with relay(tmp_path) as one, echo_server() as port:
        one.person("bob")
        one.ctl("reload")
        one.stop()
        one.policy("rules: [\n", "broken")
        (one.site / "keys" / "bob.pub").unlink()
        one.start()
        assert "THE SITE HAS FAULTS" in one.log()
        async with await connect(one) as client:
            assert await opens(client, port)
        with pytest.raises(asyncssh.PermissionDenied):
            await connect(one, "bob")


def test_a_site_that_was_never_right_is_not_served(tmp_path: Path) -> None:
    """Without anything applied earlier a broken site is refused at start with its faults."""
    one = Relay(tmp_path, policy="rules: {")
    try:
        with pytest.raises(AssertionError):
            one.start()
        assert "policies/main.yaml" in one.log()
        assert one.process is not None
        assert one.process.wait(10) == 1
    finally:
        one.end()


async def test_a_removed_key_takes_effect_by_itself(tmp_path: Path) -> None:
    """Deleting a key file ends its open forward and its connection within about 2 s, with the reason on record."""
    with relay(tmp_path) as one, echo_server() as port:
        client = await connect(one)
        reader, writer = await client.open_connection("remote", port)
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        (one.site / "keys" / "alice.pub").unlink()
        await client.wait_closed()
        assert one.wait_row("forward.closed")["reason"] in ("key-unlisted", "key-revoked")
        assert one.wait_row("key.removed")
        with pytest.raises(asyncssh.PermissionDenied):
            await connect(one)


async def test_a_new_key_waits_for_reload(tmp_path: Path) -> None:
    """A key file put there by hand lets nobody in before `reload`: only narrowing happens by itself."""
    with relay(tmp_path) as one:
        one.person("carol")
        # two looks at the key files have passed when a removal made later has taken effect
        one.person("dave")
        one.ctl("reload")
        one.person("erin")
        (one.site / "keys" / "dave.pub").unlink()
        one.wait_row("key.removed")
        with pytest.raises(asyncssh.PermissionDenied):
            await connect(one, "erin")
        (await connect(one, "carol")).close()


async def test_a_hang_up_is_a_reload(tmp_path: Path) -> None:
    """SIGHUP applies the files as `reload` does."""
    with relay(tmp_path) as one:
        one.person("carol")
        assert one.process is not None
        os.kill(one.process.pid, signal.SIGHUP)
        one.wait_row("site.applied", keys=2)  # the row of the start, which may come late, has one
        (await connect(one, "carol")).close()


async def test_a_storm_of_hang_ups_is_a_reload_or_two(tmp_path: Path) -> None:
    """Signals that come during a reload cause one more reload after it, not forty."""
    with relay(tmp_path, settings="workers: 1\n") as one:
        before = len(one.rows("site.applied"))
        assert one.process is not None
        for _ in range(40):
            os.kill(one.process.pid, signal.SIGHUP)
            time.sleep(0.005)  # else the kernel makes one of them
        one.person("carol")
        os.kill(one.process.pid, signal.SIGHUP)
        one.wait_row("site.applied", keys=2)
        one.ctl("reload")
        assert len(one.rows("site.applied")) - before <= 6
        (await connect(one, "carol")).close()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"nonsense",
        b'["done"]',
        b'["policy", 1]\n["done","v",[]]',
        b"[]",
        b'["settings",3]\n["done","v",[]]',
        b"\xff",
    ],
)
def test_a_broken_document_is_refused(text: bytes) -> None:
    """Whatever a compiling child of another version prints, it is a whole document or an error."""
    with pytest.raises(InputRejected):
        parse(text)


def test_the_childs_faults_become_faults() -> None:
    """The faults that the child prints keep file, line and cure."""
    with pytest.raises(SiteInvalid) as caught:
        parse(b'["faults",[["a.yaml",3,"wrong","right"]]]')
    assert str(caught.value.faults[0]) == "a.yaml:3: wrong; right"

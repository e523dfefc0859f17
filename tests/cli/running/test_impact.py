"""--dry-run of what narrows: who would be cut is said, and then exactly that happens."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.relay_process import POLICY, Relay, echo_server, relay
from tests.serve import hostile
from tests.serve.hostile import Client, load_key


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Relay]:
    """A running relay."""
    with relay(tmp_path, settings="workers: 1\n") as made:
        yield made


def logged_in(one: Relay, person: str = "alice") -> Client:
    """That person's connection."""
    return Client(one.port).login(person, load_key(one.directory / person))


def test_a_reload_says_whom_it_would_cut_and_does_so(one: Relay) -> None:
    """What the files would change, each forward that would end with its reason, and nothing is applied by saying so."""
    with echo_server() as first, echo_server() as second, logged_in(one) as alice:
        alice.open("remote", first)
        number, channel = alice.open("remote", second)
        said = one.ctl("reload", "--dry-run")
        assert "nothing differs from the running configuration" in said
        assert "no connection would be cut (1 connection, 2 forwards)" in said
        one.policy(POLICY.replace('"1024-65535"', f'"{second}"'))
        said = one.ctl("reload", "--dry-run")
        assert "policies/main.yaml: changed: 1 lines added, 1 removed" in said
        assert said.count("would be cut: forward ") == 1
        assert f"of alice from 127.0.0.1:{alice.sock.getsockname()[1]} to remote:{first} (127.0.0.2 in here)" in said
        assert ": no-rule (no rule allows alice to reach" in said
        assert "nothing was applied" in said
        (cut,) = json.loads(one.ctl("reload", "--dry-run", "--json"))["cut"]
        alice.write(channel, b"alive")
        assert alice.read(number, 5) == b"alive"
        one.ctl("reload")
        alice.expect(hostile.CLOSE)
        assert one.wait_row("forward.closed", port=first)["forward"] == cut["forward"]
        alice.write(channel, b"alive")
        assert alice.read(number, 5) == b"alive"


def test_a_reload_that_would_fail_says_so(one: Relay) -> None:
    """Faults with their place, exit status 1."""
    one.policy("rules: [half")
    said = one.ctl("reload", "--dry-run", status=1)
    assert "policies/main.yaml:2: not YAML" in said
    assert "nothing would be applied" in said


def test_a_key_that_left_the_files_is_foreseen(one: Relay) -> None:
    """A changed line of a key counts as it will: here its from= no longer names where the person is."""
    one.person("bob")
    one.ctl("reload")
    with logged_in(one, "bob"):
        line = (one.site / "keys" / "bob.pub").read_text()
        (one.site / "keys" / "bob.pub").write_text(f'from="192.0.2.7" {line}')
        said = one.ctl("reload", "--dry-run")
        assert "would be cut: connection" in said
        assert ": key-source (from= of keys/bob.pub:1 does not name 127.0.0.1)" in said


def test_a_revocation_says_whom_it_would_cut(one: Relay) -> None:
    """The keys, and their connections with what they carry; nothing is revoked by saying so."""
    one.person("bob")
    one.ctl("reload")
    with echo_server() as port, logged_in(one) as alice, logged_in(one, "bob"):
        alice.open("remote", port)
        said = one.ctl("revoke-key", "alice", "--dry-run")
        assert "would be revoked: SHA256:" in said
        assert said.count("would be cut: connection") == 1
        assert f"of alice from 127.0.0.1:{alice.sock.getsockname()[1]}, which carries remote:{port}" in said
        assert "nothing was revoked" in said
        told = json.loads(one.ctl("revoke-key", "alice", "--dry-run", "--json"))
        assert [key["person"] for key in told["keys"]] == ["alice"]
        assert [(cut["person"], cut["reason"]) for cut in told["cut"]] == [("alice", "key-revoked")]
        assert "goes with --dry-run" in one.ctl("revoke-key", "alice", "--json", status=2)
        alice.echo("remote", port)
    assert not (one.site / "keys" / "revoked").exists()


def test_without_a_relay_the_keys_are_named_all_the_same(one: Relay) -> None:
    """A revocation needs no relay, so neither does asking about it; a reload does."""
    one.stop()
    said = one.ctl("revoke-key", "alice", "--dry-run")
    assert "would be revoked: SHA256:" in said
    assert "the affected sessions are unknown: no relay answers" in said
    assert json.loads(one.ctl("revoke-key", "alice", "--dry-run", "--json"))["cut"] is None
    assert "no relay answers" in one.ctl("reload", "--dry-run", status=3)
    assert "no relay answers" in one.ctl("kill", "alice", status=3)
    assert "no relay answers" in one.ctl("connections", status=3)

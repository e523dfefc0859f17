"""A stop for good, a restart by systemd, and the workers of an earlier supervisor."""

import os
import signal
from pathlib import Path

from relay.serve import control_client
from tests.relay_process import POLICY, echo_server, relay, wait_for
from tests.serve.hostile import Client, load_key
from tests.serve.systemd import settled, systemd


def test_the_second_ctrl_c_ends_at_once(tmp_path: Path) -> None:
    """The first one gives open forwards their time and says so, the second ends them, with their rows."""
    with relay(tmp_path, settings="workers: 1\nlimits: {stop: 60s}\n") as one, echo_server() as port:
        with Client(one.port) as client:
            client.login("alice", load_key(one.key))
            number, channel = client.open("remote", port)
            os.kill(one.pid, signal.SIGINT)
            wait_for(lambda: "Ctrl-C again ends them now" in one.log(), "it does not say so")
            client.write(channel, b"still")
            assert client.read(number, 5) == b"still"
            assert one.stop(signal.SIGINT, 10) == 0
        assert one.rows("forward.closed")[-1]["reason"] == "server-stopped"
        assert one.worker_pids() == []


def test_the_drained_end_with_the_rest(tmp_path: Path) -> None:
    """A stop for good ends the workers of earlier supervisors too, each with its closing rows."""
    with relay(tmp_path, settings="workers: 1\nlimits: {stop: 0s}\n", by_systemd=True) as one, echo_server() as port:
        with Client(one.port) as old:
            old.login("alice", load_key(one.key)).open("remote", port)
            one.restart()
            with Client(one.port) as new:
                new.login("alice", load_key(one.key)).open("remote", port)
                assert len(one.worker_pids()) == 2
                assert one.stop(signal.SIGINT) == 0
        assert [row["reason"] for row in one.rows("forward.closed")] == ["server-stopped"] * 2
        assert one.worker_pids() == []
        assert list((one.state / "run").glob("*")) == []


def test_a_drain_has_an_end(tmp_path: Path) -> None:
    """Workers of an earlier supervisor end at `drain`, with closing rows that say so."""
    with relay(tmp_path, settings="workers: 1\nlimits: {drain: 2s}\n", by_systemd=True) as one, echo_server() as port:
        with Client(one.port) as old:
            old.login("alice", load_key(one.key)).open("remote", port)
            one.restart()
            one.wait_row("forward.closed", reason="drained")
            assert "please reconnect" in old.gone()
        wait_for(lambda: len(one.worker_pids()) == 1, "it does not end")


def test_revocations_reach_the_drained(tmp_path: Path) -> None:
    """A key that is revoked after a restart loses its forwards in the workers of the supervisor before, at once."""
    with relay(tmp_path, settings="workers: 1\n", by_systemd=True) as one, echo_server() as port:
        with Client(one.port) as old:
            old.login("alice", load_key(one.key)).open("remote", port)
            one.restart()
            wait_for(lambda: control_client.call(one.state, {"do": "status"})["forwards"] == 1, "it has not joined")
            one.ctl("revoke-key", "alice")
            assert "no longer accepted" in old.gone()
        settled(one)


def test_a_revocation_holds_while_nobody_serves(tmp_path: Path) -> None:
    """The supervisor is gone: workers look at the key files themselves, and end what is not allowed any more."""
    with relay(tmp_path, settings="workers: 1\n") as one, echo_server() as port:
        one.person("bob")
        one.policy(POLICY.replace("allow: [alice]", "allow: [alice, bob]"))
        one.ctl("reload")
        with Client(one.port) as alice, Client(one.port) as bob:
            alice.login("alice", load_key(one.key)).open("remote", port)
            bob.login("bob", load_key(one.directory / "bob"))
            number, channel = bob.open("remote", port)
            one.kill_supervisor()
            one.ctl("revoke-key", "alice")
            assert "no longer accepted" in alice.gone()
            bob.write(channel, b"not me")
            assert bob.read(number, 6) == b"not me"
            one.start()
            one.wait_row("connection.closed", reason="key-revoked")
        settled(one)


def test_a_reboot_loses_no_row(tmp_path: Path) -> None:
    """The supervisor ends first, its workers later, as at a shutdown: what they had to say is recorded at the start."""
    with systemd(tmp_path, "workers: 1\n") as (one, _), echo_server() as port:
        with Client(one.port) as client:
            client.login("alice", load_key(one.key))
            number, channel = client.open("remote", port)
            client.write(channel, b"counted")
            assert client.read(number, 7) == b"counted"
            (worker,) = one.worker_pids()
            one.stop()
            os.kill(worker, signal.SIGTERM)
            wait_for(lambda: not one.worker_pids(), "it does not end")
        assert [path.suffix for path in (one.state / "run").glob("w*-*")] == [".rows"]
        one.start()
        row = one.wait_row("forward.closed", reason="server-stopped")
        assert (row["sent"], row["received"]) == (7, 7)
        assert one.wait_row("connection.closed")["reason"] == "server-stopped"
        assert settled(one) == 1
        wait_for(lambda: not list((one.state / "run").glob("*.rows")), "what is recorded stays there")


def test_rows_that_cannot_be_read_do_not_stop_the_start(tmp_path: Path) -> None:
    """A file of rows that something has spoilt is said, and left for a person."""
    with relay(tmp_path, settings="workers: 1\n") as one:
        one.stop()
        for number, text in enumerate(("[1]", "{", "null", '["a", "b", "c", {}]')):
            (one.state / "run" / f"w1-{number}.rows").write_text(text)
        one.start()
        assert one.log().count("cannot be read") == 4

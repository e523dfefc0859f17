"""Processes that die, disks that fill, and a relay that is told to stop: nobody notices more than must be."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.relay_process import POLICY, Relay, echo_server, relay, wait_for
from tests.serve import hostile
from tests.serve.hostile import Client, Gone, load_key, uint32


def logged_in(one: Relay, person: str = "alice") -> Client:
    """That person's connection."""
    return Client(one.port).login(person, load_key(one.directory / person))


def alive(client: Client, number: int, channel: int) -> None:
    """See that an open forward to an echo server still carries bytes."""
    client.write(channel, b"alive")
    assert client.read(number, 5) == b"alive"


def settled(one: Relay) -> None:
    """Wait until each opening row has its closing row, and see that none has two."""

    def look() -> bool:
        opened = sorted(row["forward"] for row in one.rows("forward.opened"))
        closed = sorted(row["forward"] for row in one.rows("forward.closed"))
        assert len(opened) == len(set(opened))
        assert len(closed) == len(set(closed)), "a forward was closed twice"
        return opened == closed

    wait_for(look, "an opening has no closing row")


@pytest.mark.slow
def test_a_supervisor_that_is_killed_and_comes_back_loses_nothing(tmp_path: Path) -> None:
    """Open forwards go on, new ones are refused as busy, and the next supervisor gets every row exactly once."""
    with relay(tmp_path, settings="workers: 1\n") as one, echo_server() as port:
        with logged_in(one) as client:
            number, channel = client.open("remote", port)
            ending, ending_channel = client.open("remote", port)
            workers = one.worker_pids()
            one.kill_supervisor()
            alive(client, number, channel)
            wait_for(
                lambda: "the relay cannot take this now" in client.refused("remote", port)[1],
                "new ones are not refused",
            )
            # one that ends meanwhile: its closing row must wait for the next supervisor
            client.send(bytes([hostile.CLOSE]) + uint32(ending_channel))
            assert int.from_bytes(client.expect(hostile.CLOSE)[1:5], "big") == ending
            alive(client, number, channel)
            assert one.worker_pids() == workers
            one.start()
            one.wait_row("forward.closed", reason="client-closed")
            alive(client, number, channel)
            wait_for(
                lambda: (
                    client.send(client.ask("remote", port)[1])
                    or client.expect(hostile.OPEN_CONFIRMATION, hostile.OPEN_FAILURE)[0] == hostile.OPEN_CONFIRMATION
                ),
                "an old connection opens nothing new any more",
            )
            with logged_in(one) as other:
                other.echo("remote", port)
        settled(one)
        reasons = {row["reason"] for row in one.rows("forward.closed")}
        assert "worker-lost" not in reasons
        wait_for(lambda: workers[0] not in one.worker_pids(), "the old worker does not end when it is empty")
        assert "a bug of ours" not in one.log(), one.log()


def test_a_worker_that_is_killed_takes_only_its_own_with_it(tmp_path: Path) -> None:
    """Its forwards and connections get closing rows of `worker-lost`; the rest goes on, and it is replaced."""
    with relay(tmp_path, settings="workers: 2\n") as one, echo_server() as port:
        wait_for(lambda: len(one.worker_pids()) == 2, "there are no two workers")
        clients = []
        by_worker: dict[str, tuple[Client, int, int]] = {}
        while len(by_worker) < 2:
            client = logged_in(one)
            clients.append(client)
            number, channel = client.open("remote", port)
            worker = one.rows("forward.opened")[-1]["worker"]
            by_worker.setdefault(worker, (client, number, channel))
        victim, survivor = sorted(by_worker)
        pid = next(
            pid
            for pid in one.worker_pids()
            if victim.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        )
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(Gone):
            by_worker[victim][0].receive()
        alive(*by_worker[survivor])
        row = one.wait_row("forward.closed", reason="worker-lost")
        ended = one.wait_row("connection.closed", reason="worker-lost")
        assert (ended["person"], ended["worker"]) == ("alice", victim)
        assert row["forward"] in {row["forward"] for row in one.rows("forward.opened") if row["worker"] == victim}
        alive(*by_worker[survivor])
        wait_for(lambda: len(one.worker_pids()) == 2, "the worker is not replaced")
        for client in clients:
            client.sock.close()
        with logged_in(one) as again:
            again.echo("remote", port)
        settled(one)


def test_sigterm_ends_with_closing_rows(tmp_path: Path) -> None:
    """Stopping gives open forwards their time, then closes them with rows, and no process stays."""
    with relay(tmp_path, settings="workers: 1\nlimits: {stop: 1s}\n") as one, echo_server() as port:
        with logged_in(one) as client:
            client.open("remote", port)
            workers = one.worker_pids()
            assert one.stop() == 0
            assert "stopping" in client.gone()
        assert [row["reason"] for row in one.rows("forward.closed")] == ["server-stopped"]
        assert one.rows("connection.closed")[-1]["reason"] == "server-stopped"
        names = [row["name"] for row in one.rows()]
        assert names[names.index("server.stopped") + 1 :] in ([], ["audit.sealed"])
        assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


def test_a_full_disk_refuses_new_forwards_and_heals_by_itself(tmp_path: Path) -> None:
    """No row, no bytes: busy with an id while rows cannot be written; what is open goes on; then all is well again."""
    with relay(tmp_path, settings="workers: 1\n") as one, echo_server() as port, logged_in(one) as client:
        number, channel = client.open("remote", port)
        ending, ending_channel = client.open("remote", port)
        assert one.process is not None
        pid = one.process.pid
        unlimited = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, unlimited[1]))
        code, text = client.refused("remote", port)
        assert code == hostile.CONNECT_FAILED
        assert text.startswith("relay: the relay cannot take this now, please try again (id ")
        alive(client, number, channel)
        client.send(bytes([hostile.CLOSE]) + uint32(ending_channel))
        assert int.from_bytes(client.expect(hostile.CLOSE)[1:5], "big") == ending
        # log-ins need no row of their own to be confirmed, and narrowing goes through
        with logged_in(one) as other:
            assert other.refused("remote", port)[0] == hostile.CONNECT_FAILED
        assert not one.rows("forward.closed")
        resource.prlimit(pid, resource.RLIMIT_FSIZE, unlimited)
        one.wait_row("forward.closed", reason="client-closed")
        wait_for(
            lambda: (
                client.send(client.ask("remote", port)[1])
                or client.expect(hostile.OPEN_CONFIRMATION, hostile.OPEN_FAILURE)[0] == hostile.OPEN_CONFIRMATION
            ),
            "it does not recover",
        )
        alive(client, number, channel)
        assert one.process.poll() is None
        client.sock.close()
        settled(one)


AUDIT = """\
import os, sys

_PLACE = os.environ.get("RELAY_TEST_IMPORTS")

if _PLACE:

    def _hook(event, arguments, os=os, place=_PLACE):
        if event == "import":
            log = os.open(place, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            os.write(log, f"{os.getpid()} {arguments[0]!r}\\n".encode())
            os.close(log)

    sys.addaudithook(_hook)
"""


@pytest.mark.slow
def test_serving_processes_import_nothing_after_they_are_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that lives on after an upgrade needs none of its files again: all is tried, nothing imported."""
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(AUDIT)
    log = tmp_path / "imports.log"
    monkeypatch.setenv("PYTHONPATH", str(hook))
    monkeypatch.setenv("RELAY_TEST_IMPORTS", str(log))
    with relay(tmp_path, settings="workers: 1\n") as one, echo_server(greeting=b"hi") as port:
        monkeypatch.delenv("RELAY_TEST_IMPORTS")
        assert one.process is not None
        serving = {one.process.pid, *one.worker_pids()}
        early = log.read_text().splitlines()
        before = len(early)
        assert serving <= {int(line.split()[0]) for line in early}, "the hook is not in the serving processes"
        one.person("bob")
        one.ctl("reload")
        with logged_in(one) as client, logged_in(one, "bob") as bob:
            client.send(client.ask("remote", port)[1])
            assert client.expect(hostile.OPEN_CONFIRMATION, hostile.OPEN_FAILURE)[0] == hostile.OPEN_CONFIRMATION
            assert client.read(0, 2) == b"hi"
            client.exchange()
            client.refused("nowhere", 22)
            client.refused("r\N{LATIN SMALL LETTER U WITH DIAERESIS}ck.example", 22)
            client.refused(b"\xff\xfe", 70000)
            client.refused("remote", 1)
            client.refused("", 0, kind="session")
            client.refused("", 0, kind="\u4e2d\u6587")
            client.send(bytes([hostile.GLOBAL_REQUEST]) + hostile.string("hostkeys-prove-00@openssh.com") + b"\1")
            client.expect(hostile.REQUEST_FAILURE)
            one.policy("nonsense: [\n")
            one.ctl("reload", status=1)
            one.policy(POLICY + "# new\n")
            one.ctl("reload")
            (one.site / "keys" / "bob.pub").unlink()
            bob.gone()
            client.send(bytes([hostile.EXTENDED_DATA]) + uint32(0, 1) + hostile.string("x"))
            client.gone()
        with Client(one.port) as stranger:
            stranger.service()
            stranger.offer("\u00fc", hostile.string("ssh-ed25519") + hostile.string(bytes(32)))
            stranger.send(stranger.request("x", "keyboard-interactive", hostile.string("") * 2))
            stranger.expect(hostile.INFO_REQUEST, hostile.USERAUTH_FAILURE)
        with Client(one.port, exchange=False) as junk:
            junk.send_raw(b"SSH-2.0-\xff\r\n" + bytes(100))
        for kind in ("rsa", "ecdsa"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", kind, "-f", str(one.directory / kind)], check=True
            )
            (one.site / "keys" / f"{kind}.pub").write_text((one.directory / f"{kind}.pub").read_text())
        one.ctl("reload")
        for kind in ("rsa", "ecdsa"):
            assert b"no such host" in one.ssh("-W", "nowhere:22", "relay", person=kind).stderr
        with echo_server() as plain:
            done = one.ssh("-W", f"remote:{plain}", "relay", stdin=b"through")
            assert done.stdout == b"through", done.stderr
        one.stop()
        late = log.read_text().splitlines()[before:]
        assert not [line for line in late if int(line.split()[0]) in serving]


def test_a_python_that_runs_the_hook_would_have_told(tmp_path: Path) -> None:
    """The audit hook of the test above does see an import: it cannot be green because it is blind."""
    (tmp_path / "sitecustomize.py").write_text(AUDIT)
    log = tmp_path / "log"
    subprocess.run(
        [sys.executable, "-P", "-c", "import colorsys"],
        env={**os.environ, "PYTHONPATH": str(tmp_path), "RELAY_TEST_IMPORTS": str(log)},
        check=True,
    )
    assert "'colorsys'" in log.read_text()

"""Old and new code side by side: workers of another release under today's supervisor, and files that change below."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.serve import control_client
from relay.store import host_keys
from tests.relay_process import Relay, echo_server, make_key, wait_for
from tests.serve.hostile import Client, Gone, load_key
from tests.serve.systemd import Systemd, settled

ARTEFACTS = Path(__file__).parents[1] / "artefacts"

# the supervisor alone: the command line of an old release is not kept
_SUPERVISOR = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.executable, [sys.executable, "-P", "-m", "relay.serve.supervisor", sys.argv[2]])
"""

# says of each import that is not answered from sys.modules who asked for what
_WATCH = """
import os, sys
def _watch(event, arguments):
    if event == "import":
        descriptor = os.open(f"{os.environ['IMPORTS']}/{os.getpid()}", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, f"{arguments[0]}\\n".encode())
        os.close(descriptor)
sys.addaudithook(_watch)
"""


@pytest.fixture
def one(tmp_path: Path) -> Iterator[tuple[Relay, Systemd]]:
    """A relay that systemd is to run, not started yet."""
    made = Relay(tmp_path, settings="workers: 1\n")
    host_keys.ensure(made.state)
    manager = Systemd(made)
    try:
        yield made, manager
    finally:
        made.end()
        manager.close()


def release(one: Relay, version: str) -> Path:
    """That release's modules, unpacked beside the relay."""
    place = one.directory / f"release-{version}"
    with tarfile.open(ARTEFACTS / f"relay-{version}.tar.xz") as archive:
        archive.extractall(place, filter="data")
    return place


def start(one: Relay, place: Path | None) -> None:
    """Start today's supervisor, or the one whose modules lie at `place`."""
    one.environ.pop("PYTHONPATH", None)
    if place is None:
        one.start()
    else:
        one.environ["PYTHONPATH"] = str(place)
        one._run("-c", _SUPERVISOR, str(one.listener.fileno()), str(one.site))


@pytest.mark.parametrize("back", [False, True], ids=["upgrade", "step back"])
def test_workers_of_the_other_release_serve_on(one: tuple[Relay, Systemd], back: bool) -> None:
    """Its open forwards go on, it opens new ones, each has its rows, and a revocation reaches it; files gone or not."""
    relay, _ = one
    old = release(relay, "0.1.0")
    first, second = (None, old) if back else (old, None)
    with echo_server() as port:
        start(relay, first)
        (worker,) = relay.worker_pids()
        environ = Path(f"/proc/{worker}/environ").read_bytes()
        assert (str(old).encode() in environ) is not back
        with Client(relay.port) as client:
            client.login("alice", load_key(relay.key))
            number, channel = client.open("remote", port)
            assert relay.stop() == 0
            if back:  # that release knows format 1 alone: the log begins anew, and `relayctl upgrade` says so before
                for file in relay.state.glob("audit.db*"):
                    file.unlink()
            start(relay, second)
            if not back:
                shutil.rmtree(old)
            joined = wait_for(
                lambda: [
                    w for w in control_client.call(relay.state, {"do": "status"})["workers"] if w["pid"] == worker
                ],
                "the worker of before does not join",
            )
            assert joined[0]["draining"]
            client.write(channel, b"on")
            assert client.read(number, 2) == b"on"
            client.echo("remote", port)
            with Client(relay.port) as new:  # to a worker of the new supervisor
                new.login("alice", load_key(relay.key))
                new.echo("remote", port)
            (relay.site / "keys" / "alice.pub").write_text("")
            assert "no longer accepted" in client.gone()
        wait_for(lambda: worker not in relay.worker_pids(), "it does not end when it is empty")
        if back:
            assert relay.stop() == 0
            start(relay, None)  # and forward again: what 0.1.0 wrote is laid out anew
        assert settled(relay) == (2 if back else 3)
        assert "worker-lost" not in {row["reason"] for row in relay.rows("forward.closed")}
        assert "a bug of ours" not in relay.log(), relay.log()


def test_a_worker_that_speaks_another_protocol_ends(one: tuple[Relay, Systemd]) -> None:
    """Whom the supervisor cannot tell about a revocation may not go on: it is told to stop, and does."""
    relay, _ = one
    place = release(relay, "0.1.0")
    protocol = place / "relay" / "serve" / "protocol.py"
    protocol.write_text(protocol.read_text().replace("\nVERSION = 1\n", "\nVERSION = 99\n"))
    with echo_server() as port:
        start(relay, place)
        with Client(relay.port) as client:
            client.login("alice", load_key(relay.key)).open("remote", port)
            relay.stop()
            start(relay, None)
            with pytest.raises(Gone):
                while True:
                    client.receive()
        assert "speaks another protocol" in relay.log()
        relay.wait_row("forward.closed")
        settled(relay)


def exercise(one: Relay, port: int) -> None:
    """Everything that strangers, persons, targets and the administrator may do."""
    with socket.create_server(("127.0.0.2", 0)) as listener:
        closed = listener.getsockname()[1]
    for junk in (b"GET / HTTP/1.1\r\n\r\n", b"SSH-1.5-old\r\n", b"SSH-2.0-x\r\n" + bytes(64)):
        with socket.create_connection(("127.0.0.1", one.port)) as sock, contextlib.suppress(OSError):
            sock.sendall(junk)
            sock.settimeout(5)
            while sock.recv(4096):
                pass
    with Client(one.port) as silent:
        with Client(one.port) as client:
            client.login("alice", load_key(one.key))
            client.echo("remote", port)
            for host in ("192.168.7.7", "nobody", "::1", "\0", "remote.here"):
                client.refused(host, closed)
            client.refused("remote", port, kind="session")
            client.refused("remote", port, kind="forwarded-tcpip")
        silent.gone()
    make_key(one.directory / "mallory")
    assert b"Permission denied" in one.ssh("relay", person="mallory").stderr
    for options in (
        (),
        ("-c", "aes256-ctr", "-m", "hmac-sha2-512-etm@openssh.com"),
        ("-c", "chacha20-poly1305@openssh.com"),
        ("-o", "KexAlgorithms=curve25519-sha256"),
    ):
        assert one.ssh(*options, "-W", f"remote:{port}", "relay", stdin=b"x").stdout == b"x", options
    for person, kind in (("rsa", "rsa"), ("ecdsa", "ecdsa")):
        key = one.directory / person
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", key], check=True)
        one.ctl("add-key", person, f"{key}.pub")
        assert f"you are {person}".encode() in one.ssh("relay", person=person).stderr
    one.policy("rules: [half", name="edited")
    one.ctl("reload", status=1)
    (one.site / "policies" / "edited.yaml").unlink()
    one.ctl("reload")
    with Client(one.port) as client:
        client.login("rsa", load_key(one.directory / "rsa"), "rsa-sha2-512")
        one.ctl("revoke-key", "rsa")
        client.gone()
    (one.site / "keys" / "ecdsa.pub").unlink()
    one.wait_row("key.removed")
    one.ctl("serve", "--take-over", status=1)


def test_nothing_is_imported_after_ready(tmp_path: Path) -> None:
    """Whatever is asked of them, supervisor and worker find all they need in memory: their files may be others now."""
    (tmp_path / "watch").mkdir()
    (tmp_path / "imports").mkdir()
    (tmp_path / "watch" / "sitecustomize.py").write_text(_WATCH)
    made = Relay(tmp_path, settings="workers: 1\nlimits: {login_grace: 2s}\n")
    made.environ.update(PYTHONPATH=str(tmp_path / "watch"), IMPORTS=str(tmp_path / "imports"))
    manager = Systemd(made)
    try:
        made.start()
        pids = [made.pid, *made.worker_pids()]
        before = {pid: (tmp_path / "imports" / str(pid)).read_text().splitlines() for pid in pids}
        assert all(len(found) > 50 for found in before.values()), "the hook sees nothing"
        with echo_server() as port:
            exercise(made, port)
            old, worker = pids
            os.kill(old, signal.SIGHUP)
            manager.told("RELOADING")
            manager.told("READY")
            with Client(made.port) as client:
                client.login("alice", load_key(made.key))
                made.stop()
                made.start()
                client.echo("remote", port)
            wait_for(lambda: worker not in made.worker_pids(), "it does not end")
        for pid in pids:
            after = (tmp_path / "imports" / str(pid)).read_text().splitlines()
            assert after[len(before[pid]) :] == [], f"process {pid} imported after it was ready"
    finally:
        made.end()
        manager.close()

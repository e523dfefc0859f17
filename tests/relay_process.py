"""A real relay for a test: its own site below tmp_path, its own port, real processes, ended by their ids."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

# the listening socket is handed over as systemd does it, so that no two tests can race for a port
_HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.executable, [sys.executable, "-P", "-m", "relay", "--site", sys.argv[2], "serve"])
"""

POLICY = """\
zones:
  here: {networks: [127.0.0.0/8], interface: lo}
hosts:
  remote: {address: 127.0.0.2, zone: here, user: tester}
rules:
  - {name: alice reaches remote, allow: [alice], to: [remote], ports: ["1024-65535"]}
"""


def wait_for(what: Callable[[], Any], why: str, seconds: float = 20.0) -> Any:
    """What `what` gives as soon as it is true; fails the test with `why` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, why
        time.sleep(0.02)
    return found


def make_key(path: Path, comment: str = "") -> str:
    """A new Ed25519 key pair at `path` and `path`.pub; the public line."""
    key = Ed25519PrivateKey.generate()
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    )
    path.chmod(0o600)
    line = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    line = f"{line} {comment or path.name}"
    path.with_name(path.name + ".pub").write_text(line + "\n")
    return line


class Relay:
    """One relay and its site. `start` and `stop` may be called again and again; the port stays."""

    def __init__(
        self,
        directory: Path,
        policy: str = POLICY,
        settings: str = "",
        enter: Sequence[str] = (),
        *,
        by_systemd: bool = False,
    ) -> None:
        """`enter`: a command that runs the relay elsewhere (nsenter); its listener stays in the test's own network.

        `by_systemd`: it runs as a service of systemd, so its workers outlive a SIGTERM (see `restart`).
        """
        self.directory = directory
        self._enter = enter
        self.site = directory / "site"
        for part in (self.site, self.site / "keys", self.site / "policies"):
            part.mkdir(mode=0o750)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self.listener.getsockname()[1]
        self.settings(settings)
        self.policy(policy)
        self.process: subprocess.Popen[bytes] | None = None
        self._log = directory / "relay.log"
        self.key = directory / "alice"
        self.config = ""  # more of `~/.ssh/config`: the hosts behind the relay
        self.public = self.person("alice")
        self.environ: dict[str, str] = {}  # more for the relay's own processes
        if by_systemd:
            self.environ["NOTIFY_SOCKET"] = str(directory / "notify")

    def settings(self, text: str) -> None:
        """Write relay.yaml; where it listens is added."""
        (self.site / "relay.yaml").write_text(f'listen: ["127.0.0.1:{self.port}"]\n{text}')

    def policy(self, text: str, name: str = "main") -> None:
        """Write policies/NAME.yaml."""
        (self.site / "policies" / f"{name}.yaml").write_text(text)

    def person(self, name: str, options: str = "") -> str:
        """A person with a new key at directory/NAME, let in by keys/NAME.pub; the public line."""
        line = make_key(self.directory / name, f"{name}@test")
        (self.site / "keys" / f"{name}.pub").write_text(f"{options} {line}\n".lstrip())
        return line

    def start(self) -> "Relay":
        """Run it, and wait until it serves."""
        self._run("-c", _HAND_OVER, str(self.listener.fileno()), str(self.site))
        return self

    def restart(self) -> None:
        """Restart it as `systemctl restart` does with KillMode=process; it must be `by_systemd`."""
        assert "NOTIFY_SOCKET" in self.environ
        assert self.stop() == 0, self.log()
        self.start()

    def _run(self, *arguments: str) -> None:
        already = self.log().count("serving ")
        with self._log.open("ab") as log:
            process = self.process = subprocess.Popen(
                [*self._enter, sys.executable, "-P", *arguments],
                pass_fds=[self.listener.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environ},
            )
        wait_for(lambda: self.log().count("serving ") > already or process.poll() is not None, "it never served")
        assert process.poll() is None, self.log()

    def stop(self, number: int = signal.SIGTERM, seconds: float = 15.0) -> int:
        """End it as an administrator would; its exit status."""
        process, self.process = self.process, None
        if process is None:
            return 0
        process.send_signal(number)
        return process.wait(seconds)

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        assert self.process is not None
        return self.process.pid

    def kill_supervisor(self) -> None:
        """Kill the supervisor alone; its workers live on."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    def end(self) -> None:
        """Whatever still runs of it is ended; for the end of a test."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        # first a supervisor that is not our child: it would start workers again
        for pid in self._pids("relay.serve.supervisor", self.site) + self._pids("relay.serve.worker", self.state):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.listener.close()

    def worker_pids(self) -> list[int]:
        """The worker processes of this relay: those whose command line names its state directory."""
        return self._pids("relay.serve.worker", self.state)

    @property
    def state(self) -> Path:
        """Its state directory."""
        return self.site / "state"

    @staticmethod
    def _pids(module: str, directory: Path) -> list[int]:
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes().split(b"\0")
            except OSError:  # it ended while we looked
                continue
            if module.encode() in words and str(directory).encode() in words:
                found.append(int(path.parent.name))
        return sorted(found)

    def log(self) -> str:
        """Everything it wrote to stderr."""
        return self._log.read_text() if self._log.exists() else ""

    def ctl(self, *arguments: str, status: int | None = 0, stdin: str = "") -> str:
        """Run relayctl on this site; its output. `status` is the expected exit status, None for any."""
        done = subprocess.run(
            [sys.executable, "-P", "-m", "relay", "--site", str(self.site), *arguments],
            capture_output=True,
            text=True,
            input=stdin,
            timeout=60,
        )
        assert status is None or done.returncode == status, (
            f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        )
        return done.stdout + done.stderr

    def rows(self, name: str = "") -> list[dict[str, Any]]:
        """The audit rows of that name, oldest first: every field, with `name` and `id`."""
        from relay.store.reader import AuditReader
        from relay.store.writer import FILE

        found = []
        with AuditReader(self.site / "state" / FILE) as reader:
            seq = 0
            while rows := reader.after(seq, 1000):
                for row in rows:
                    seq = row.seq
                    if not name or row.event.name == name:
                        found.append({**row.event.fields, "name": row.event.name, "id": row.event.id})
        return found

    def wait_row(self, name: str, **fields: Any) -> dict[str, Any]:
        """The first row of that name with those fields, as soon as it is there."""

        def look() -> dict[str, Any] | None:
            return next((row for row in self.rows(name) if all(row.get(key) == fields[key] for key in fields)), None)

        found: dict[str, Any] = wait_for(
            look, f"no row {name} {fields} came; there are {json.dumps(self.rows())[-3000:]}"
        )
        return found

    # ---- OpenSSH

    def ssh_options(self, person: str = "alice") -> list[str]:
        """Options for ssh towards this relay, without any configuration file of the user."""
        config = self.directory / f"{person}.config"
        text = (
            f"Host relay\n  HostName 127.0.0.1\n  Port {self.port}\n  User {person}\n"
            f"{self.config}Host *\n  IdentityFile {self.directory / person}\n  IdentitiesOnly yes\n  BatchMode yes\n"
            f"  UserKnownHostsFile {self.directory / 'known_hosts'}\n  StrictHostKeyChecking accept-new\n"
            "  ConnectTimeout 20\n  LogLevel INFO\n"
        )
        if not config.exists() or config.read_text() != text:  # another ssh may be reading it
            config.write_text(text)
        return ["-F", str(config)]

    def ssh(
        self, *arguments: str, person: str = "alice", stdin: bytes = b"", seconds: float = 60
    ) -> subprocess.CompletedProcess[bytes]:
        """Run the real ssh with these arguments."""
        return subprocess.run(
            [shutil.which("ssh") or "ssh", *self.ssh_options(person), *arguments],
            input=stdin,
            capture_output=True,
            timeout=seconds,
        )


@contextmanager
def relay(
    directory: Path, policy: str = POLICY, settings: str = "", enter: Sequence[str] = (), *, by_systemd: bool = False
) -> Iterator[Relay]:
    """A running relay with alice, who may reach 127.0.0.2 at any port from 1024 up as `remote`."""
    one = Relay(directory, policy, settings, enter, by_systemd=by_systemd)
    try:
        yield one.start()
    finally:
        one.end()


@contextmanager
def echo_server(address: str = "127.0.0.2", greeting: bytes = b"") -> Iterator[int]:
    """A TCP server that says `greeting`, then sends back what it gets; its port."""
    import threading

    listener = socket.create_server((address, 0), backlog=512)
    listener.settimeout(0.2)
    over = threading.Event()

    def serve(sock: socket.socket) -> None:
        with sock:
            try:
                sock.sendall(greeting)
                while data := sock.recv(1 << 16):
                    sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)
            except OSError:
                return

    def accept() -> None:
        while not over.is_set():
            try:
                sock, _ = listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            sock.settimeout(60)
            threading.Thread(target=serve, args=(sock,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        over.set()
        thread.join()
        listener.close()


def version_of(text: str) -> tuple[int, ...]:
    """The numbers in the first dotted version of `text`."""
    match = re.search(r"(\d+)\.(\d+)", text)
    assert match is not None, text
    return tuple(map(int, match.groups()))

"""The network plan with everything running: a relay, LAN hosts with real sshd, and alice at the client.

    with Lab() as lab:
        lab.client.run("ssh", "-J", "relay", "remote", "hostname")
        with lab.session("remote") as session: ...

The relay serves as an ordinary process without any capability, whatever this process may do itself.
"""

import contextlib
import functools
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.lab.network import PUBLIC, RECORDER, TARGET, Network
from tests.lab.world import HOME, Machine, Running, wait_for

SETTINGS = f'listen: ["{PUBLIC}:22"]\npublic: {PUBLIC}:22\nworkers: 1\nlimits: {{dial_timeout: 2s}}\n'
OFFICE_POLICY = f"""\
zones:
  office: {{networks: [192.168.1.0/24], interface: zt0, gateway: 172.18.0.200}}
hosts:
  remote: {{address: {TARGET}, zone: office, user: ubuntu}}
  recorder: {{address: {RECORDER}, zone: office, user: ubuntu}}
rules:
  - {{name: alice reaches the office, allow: [alice], to: [office], ports: [7, 22, 23, 80]}}
"""
PLANT_POLICY = f"""\
zones:
  plant: {{networks: [192.168.1.0/24], interface: zt1, gateway: 10.147.20.200}}
hosts:
  remote: {{address: {TARGET}, zone: plant, user: ubuntu}}
rules:
  - {{name: alice reaches the plant, allow: [alice], to: [plant], ports: [7, 22]}}
"""
_SSHD = f"""\
Port 22
HostKey /etc/ssh/lab_host_key
PidFile none
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PrintMotd no
PrintLastLog no
AuthorizedKeysFile .ssh/authorized_keys
Subsystem sftp internal-sftp
SetEnv HOME={HOME}/ubuntu
"""
# RFC 862: what a forward carries while something breaks
_ECHO = """
import asyncio
async def echo(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    writer.close()
async def main():
    server = await asyncio.start_server(echo, None, 7)
    print("listening", flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


class Lab(Network):
    """Everything runs when the constructor returns. `by_hand=False`: only machines, cables and sshd."""

    def __init__(self, *, rootless: bool | None = None, by_hand: bool = True, plant: bool = True) -> None:
        self._serving: Running | None = None
        self._reader: subprocess.Popen[str] | None = None
        self._read: list[dict[str, Any]] = []
        self._forgotten = 0
        super().__init__(rootless=rootless, by_hand=by_hand, plant=plant)

    def _build(self, by_hand: bool, plant: bool) -> None:
        super()._build(by_hand, plant)
        hosts = {"remote.office": self.remote, "recorder.office": self.recorder}
        if self.plant_remote is not None:
            hosts["remote.plant"] = self.plant_remote
        self.public = self._key(self.client, f"{HOME}/root/.ssh/id_ed25519", "alice@client")
        self._known = "".join(f"{alias} {self._lan_host(machine)}\n" for alias, machine in hosts.items())
        self._site()
        if by_hand:
            for machine in hosts.values():
                self.authorise(machine)
            self.serve()
            self.configure_client()
        for machine in hosts.values():
            wait_for(functools.partial(self._listens, machine), f"no sshd at {machine.name}")

    def _key(self, machine: Machine, path: str, comment: str) -> str:
        machine.sh(f"mkdir -p -m 700 {Path(path).parent}; ssh-keygen -q -t ed25519 -N '' -C {comment} -f {path}")
        return machine.path(f"{path}.pub").read_text().strip()

    # ---- LAN hosts

    def _lan_host(self, machine: Machine) -> str:
        """A real sshd and an echo service; its host key. It accepts no key yet."""
        public = self._key(machine, "/etc/ssh/lab_host_key", machine.name)
        machine.write("/etc/ssh/sshd_config", _SSHD)
        home = machine.path(f"{HOME}/ubuntu")
        home.mkdir(mode=0o755)
        if self.world.rootless:
            # One user id is all a user namespace without privileges has, and sshd as root needs several: so it runs as
            # ubuntu, in a namespace of its own in which that one id is called 1000. It lets nobody in but ubuntu.
            machine.sysctl(ipv4__ip_unprivileged_port_start=0)
            machine.sh(
                "mount -t devpts -o newinstance,ptmxmode=0666 devpts /dev/pts; mount --bind /dev/pts/ptmx /dev/ptmx;"
                "sed -i /^tty:/d /etc/group"
            )
            identity = self.as_ubuntu()
        else:
            machine.run("chown", "ubuntu:ubuntu", f"{HOME}/ubuntu")
            identity = []
        machine.start(*identity, "/usr/sbin/sshd", "-D", "-e", "-f", "/etc/ssh/sshd_config", log="/run/sshd.log")
        machine.start(sys.executable, "-I", "-S", "-c", _ECHO, log="/run/echo.log")
        return " ".join(public.split()[:2])

    def _listens(self, machine: Machine) -> bool:
        log, echo = machine.path("/run/sshd.log"), machine.path("/run/echo.log")
        return log.exists() and "listening on 0.0.0.0" in log.read_text() and echo.exists() and bool(echo.read_text())

    def as_ubuntu(self, *words: str) -> list[str]:
        """The command as the user ubuntu."""
        if self.world.rootless:
            return ["unshare", "--user", "--map-user=1000", "--map-group=1000", *words]
        return ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", *words]

    def authorise(self, machine: Machine) -> None:
        """Let alice's key in as ubuntu."""
        directory = f"{HOME}/ubuntu/.ssh"
        machine.write(f"{directory}/authorized_keys", self.public + "\n", 0o600)
        if not self.world.rootless:
            machine.run("chown", "-R", "ubuntu:ubuntu", directory)

    # ---- the relay

    def _site(self) -> None:
        for path, text in (
            ("relay.yaml", SETTINGS),
            ("policies/office.yaml", OFFICE_POLICY),
            ("keys/alice.pub", self.public + "\n"),
        ):
            self.relay.write(f"/etc/relay/{path}", text, 0o640)
        self.relay.sysctl(ipv4__ip_unprivileged_port_start=22)

    def serve(self) -> None:
        """Start the relay, and wait until it serves."""
        already = self.log().count("serving ")
        words = (sys.executable, "-P", "-m", "relay", "--site", "/etc/relay", "serve")
        serving = self._serving = self.relay.start(
            "setpriv", "--inh-caps=-all", "--bounding-set=-all", *words, log="/var/lib/relay.log"
        )
        wait_for(lambda: self.log().count("serving ") > already or not serving.alive, "the relay does not serve")
        assert serving.alive, self.log()

    def stop(self) -> int:
        """End the relay as an administrator would; its status."""
        assert self._serving is not None
        return self._serving.end(signal.SIGTERM)

    def log(self) -> str:
        """What the relay has said."""
        path = self.relay.path("/var/lib/relay.log")
        return path.read_text(errors="replace") if path.exists() else ""

    def add_plant(self) -> None:
        """The plant too, with a policy file of its own: `remote` is `remote.office` or `remote.plant` from now on."""
        self.relay.write("/etc/relay/policies/plant.yaml", PLANT_POLICY, 0o640)
        self.relay.relayctl("reload")

    def know_hosts(self, *aliases: str) -> None:
        """Alice knows the LAN hosts' keys, as HOST.ZONE, or the first of them by other names."""
        known = "".join(f"{alias} {self._known.split(maxsplit=1)[1].splitlines()[0]}\n" for alias in aliases)
        self.client.write(f"{HOME}/root/.ssh/known_hosts", self._known + known, 0o600)

    def configure_client(self) -> None:
        """Alice's ~/.ssh, from what `relayctl client-config` prints."""
        printed = self.relay.relayctl("client-config", "alice")
        pinned = "".join(re.findall(r"^#   (\S+ (?:ssh|ecdsa)-\S+ \S+\n)", printed, re.MULTILINE))
        assert pinned, printed
        self.client.write(f"{HOME}/root/.ssh/known_hosts", pinned + self._known, 0o600)
        strict = "\nHost *\n    StrictHostKeyChecking yes\n    ConnectTimeout 20\n"
        self.client.write(f"{HOME}/root/.ssh/config", printed + strict, 0o600)

    # ---- what is on record

    def rows(self, name: str = "", **fields: object) -> list[dict[str, Any]]:
        """The audit rows since `forget` of that name with those fields, oldest first, each with `name`, `id`, `seq`."""
        if self._reader is None:
            self._reader = subprocess.Popen(
                self.relay.command(sys.executable, "-P", str(Path(__file__).parent / "rows.py"), "/var/lib/relay"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=self.relay.environ(),
            )
        assert self._reader.stdin is not None
        assert self._reader.stdout is not None
        self._reader.stdin.write(f"{self._read[-1]['seq'] if self._read else 0}\n")
        self._reader.stdin.flush()
        self._read += json.loads(self._reader.stdout.readline())
        return [
            row
            for row in self._read
            if row["seq"] > self._forgotten
            and row["name"].startswith(name)
            and all(row.get(key) == value for key, value in fields.items())
        ]

    def row(self, name: str, **fields: object) -> dict[str, Any]:
        """The first such row, as soon as it is there."""
        found: list[dict[str, Any]] = wait_for(
            lambda: self.rows(name, **fields), f"no row {name} {fields}: {json.dumps(self._read[-8:], indent=1)}"
        )
        return found[0]

    def forget(self) -> None:
        """Count from zero again, and overlook the rows that are there."""
        super().forget()
        if self._serving is not None:
            self.rows()
            self._forgotten = self._read[-1]["seq"] if self._read else 0

    # ---- alice

    def ssh(self, *words: str, seconds: float = 60) -> "subprocess.CompletedProcess[str]":
        """Run ssh at the client."""
        return self.client.done("ssh", "-o", "BatchMode=yes", *words, seconds=seconds)

    @contextmanager
    def session(self, *targets: str) -> "Iterator[Session]":
        """One connection of alice to the relay, by which each HOST:PORT of `targets` can be reached."""
        with contextlib.closing(Session(self, targets)) as session:
            yield session

    def close(self) -> None:
        """Take everything away."""
        if self._reader is not None:
            self._reader.kill()
            for stream in (self._reader.stdin, self._reader.stdout):
                assert stream is not None
                stream.close()
            self._reader.wait()
        super().close()


class Session:
    """A real ssh that listens at the client, once for each target: each `open` is one forward through the relay."""

    def __init__(self, lab: Lab, targets: tuple[str, ...]) -> None:
        self._lab = lab
        self._client = lab.client
        self._directory = f"/run/session-{time.monotonic_ns()}"
        lab.client.run("mkdir", self._directory)
        options = [word for target in targets for word in ("-L", f"{self._socket(target)}:{target}")]
        self._ssh = lab.client.start(
            *("ssh", "-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes", "-N", *options, "relay"),
            log=f"{self._directory}/log",
        )
        last = lab.client.path(self._socket(targets[-1]))
        wait_for(lambda: last.is_socket() or not self._ssh.alive, "alice does not get in")
        assert self._ssh.alive, self.said()

    def _socket(self, target: str) -> str:
        return f"{self._directory}/{target.replace(':', '-')}"

    def open(self, target: str) -> "Wire":
        """A forward; it may still be refused."""
        return Wire(self._client.path(self._socket(target)))

    def said(self) -> str:
        """What ssh printed for alice."""
        return self._ssh.log()

    def wait_said(self, text: str) -> None:
        """Wait until ssh has printed that for alice."""
        wait_for(lambda: text in self.said(), f"alice was not told {text!r} but {self.said()!r}")

    def told(self, text: str) -> str:
        """The id in the last message that ssh printed for alice with `text`."""
        self.wait_said(text)
        found = re.findall(r"\(id (\w+)\)", self.said())
        assert found, self.said()
        return str(found[-1])

    def close(self) -> None:
        """End the connection."""
        self._ssh.end()


class Wire:
    """The client's end of one forward."""

    def __init__(self, path: Path) -> None:
        self._began = time.monotonic()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(60)
        self._socket.connect(str(path))

    def read(self, seconds: float = 20) -> bytes:
        """What comes next; b"" at the end."""
        self._socket.settimeout(seconds)
        try:
            return self._socket.recv(1 << 16)
        except ConnectionError:
            return b""

    def send(self, data: bytes) -> None:
        """Send it, if the way is still there."""
        with contextlib.suppress(ConnectionError):
            self._socket.sendall(data)

    def echoes(self, data: bytes = b"are you there?\n") -> bool:
        """Whether the echo service at the other end gives it back."""
        self.send(data)
        return self.read() == data

    def refused(self, seconds: float = 20) -> float:
        """Seconds from the beginning until the forward was refused, and it ends. Fails where something answers."""
        data = self.read(seconds)
        self.close()
        assert not data, f"it was answered: {data!r}"
        return time.monotonic() - self._began

    def cut(self, break_: Callable[[], None], seconds: float = 20) -> float:
        """Do what breaks the way, sending all the while; seconds from then until this forward was cut."""
        break_()
        broken = time.monotonic()
        while time.monotonic() < broken + seconds:
            self.send(b"x" * 100)
            with contextlib.suppress(TimeoutError):
                if not self.read(0.02):
                    return time.monotonic() - broken
        raise AssertionError(f"it was not cut within {seconds} s")

    def close(self) -> None:
        """End the forward."""
        self._socket.close()

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

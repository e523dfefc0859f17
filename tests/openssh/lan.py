"""A real sshd as the host behind the relay, and what the tests ask of a real ssh client."""

import getpass
import os
import random
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.relay_process import Relay, make_key, wait_for

HERE = "127.0.0.2"  # `remote` in the relay's policy
BEYOND = "127.0.0.3"  # the same sshd, at an address that the relay's policy does not allow
USER = getpass.getuser()


def sshd_program() -> str:
    """sshd is in a directory that the PATH of ordinary users lacks."""
    return shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") or "sshd"


def free_port() -> int:
    """A port that nobody has, below those that the kernel gives to clients, so nothing takes it by chance."""
    while True:
        port = random.randint(10_000, 29_999)
        try:
            with socket.create_server(("0.0.0.0", port)):
                return port
        except OSError:
            continue


def answers(address: str, port: int) -> bool:
    """Whether something listens there."""
    try:
        with socket.create_connection((address, port), 5):
            return True
    except OSError:
        return False


class Sshd:
    """One real sshd of a test's own: own host keys, own authorized_keys, runs as whoever runs the tests."""

    def __init__(self, directory: Path, addresses: Sequence[str], extra: str = "") -> None:
        self.directory = directory
        self.port = free_port()
        self.addresses = addresses
        self.host_key = directory / "host_key"
        self.host_line = make_key(self.host_key)
        self.authorized = directory / "authorized_keys"
        self.authorized.write_text("")
        self.config = directory / "sshd_config"
        self.config.write_text(
            "".join(f"ListenAddress {address}:{self.port}\n" for address in addresses)
            + f"HostKey {self.host_key}\nAuthorizedKeysFile {self.authorized}\nPidFile none\nUsePAM no\n"
            "StrictModes no\nPermitRootLogin prohibit-password\nPasswordAuthentication no\n"
            "KbdInteractiveAuthentication no\nMaxStartups 1000\nMaxSessions 1000\nUseDNS no\nPrintMotd no\n"
            f"PrintLastLog no\nSubsystem sftp internal-sftp\n{extra}"
        )
        self.process: subprocess.Popen[bytes] | None = None

    def let_in(self, line: str) -> None:
        """Add one authorized_keys line."""
        with self.authorized.open("a") as file:
            file.write(line + "\n")

    def start(self) -> "Sshd":
        """Run it, and wait until it answers at every address."""
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # its empty directory, Debian makes it at boot
        with (self.directory / "sshd.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sshd_program(), "-D", "-e", "-f", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        process = self.process
        for address in self.addresses:
            wait_for(
                lambda address=address: process.poll() is not None or answers(address, self.port),
                "sshd never listened",
            )
        assert process.poll() is None, self.log()
        return self

    def log(self) -> str:
        """Everything it wrote to stderr."""
        return (self.directory / "sshd.log").read_text()

    def end(self) -> None:
        """Stop listening; open connections end with their clients."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None


class Lan:
    """A relay with an sshd behind it, as alice's `~/.ssh/config` knows them: `relay`, `remote` and `beyond`."""

    def __init__(self, relay: Relay, sshd: Sshd) -> None:
        self.relay = relay
        self.sshd = sshd
        sshd.let_in(relay.public)
        relay.config = (
            f"Host remote\n  User {USER}\n  Port {sshd.port}\n"
            f"Host beyond\n  HostName {BEYOND}\n  User {USER}\n  Port {sshd.port}\n"
        )

    def ssh(self, *arguments: str, stdin: bytes = b"", seconds: float = 60) -> subprocess.CompletedProcess[bytes]:
        """Run the real ssh as alice."""
        return self.relay.ssh(*arguments, stdin=stdin, seconds=seconds)

    def run(
        self, program: str, *arguments: str, stdin: bytes = b"", environ: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Run another program of the OpenSSH family (scp, sftp) or one that calls ssh, with alice's configuration."""
        options = self.relay.ssh_options() if program in ("scp", "sftp") else []
        return subprocess.run(
            [program, *options, *arguments],
            input=stdin,
            capture_output=True,
            timeout=60,
            env={**os.environ, **(environ or {})},
        )

    @property
    def command(self) -> str:
        """What rsync and git are told to use for ssh."""
        return f"ssh -F {self.relay.ssh_options()[1]} -J relay"

    @contextmanager
    def background(self, *arguments: str, ready: Callable[[], object]) -> Iterator[subprocess.Popen[bytes]]:
        """An ssh that stays; the test goes on as soon as `ready` is true. What it said is in ssh.log."""
        with (self.relay.directory / "ssh.log").open("ab") as log:
            process = subprocess.Popen(
                ["ssh", *self.relay.ssh_options(), *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            wait_for(lambda: process.poll() is not None or ready(), "ssh was never ready")
            assert process.poll() is None, self.said()
            yield process
        finally:
            process.terminate()
            process.wait()

    def said(self) -> str:
        """What the ssh in the background wrote."""
        return (self.relay.directory / "ssh.log").read_text()

    @contextmanager
    def master(self, *arguments: str) -> Iterator[str]:
        """A connection to the relay that others share (ControlMaster): the path of its socket."""
        path = str(self.relay.directory / f"m{random.randrange(1 << 30)}")
        with self.background("-N", "-M", "-S", path, *arguments, "relay", ready=Path(path).exists):
            yield path


def connect_unix(path: Path | str) -> socket.socket:
    """A connection to a forward that ssh offers as a Unix socket (no two tests can race for its name)."""
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.connect(str(path))  # without a timeout: with one, ssh's full backlog would be an error instead of a wait
    except OSError:
        sock.close()
        raise
    sock.settimeout(30)
    return sock


def exactly(sock: socket.socket, count: int) -> bytes:
    """`count` bytes, fewer only when the other side ends before."""
    data = bytearray()
    while len(data) < count and (more := sock.recv(min(1 << 16, count - len(data)))):
        data += more
    return bytes(data)


def ended(sock: socket.socket) -> bytes:
    """What still comes until the other side ends or resets the connection."""
    data = b""
    try:
        while more := sock.recv(1 << 16):
            data += more
    except ConnectionResetError:
        pass
    return data


def echoes(sock: socket.socket, data: bytes = b"still here") -> bool:
    """Whether an echo server answers at the other end."""
    sock.sendall(data)
    return exactly(sock, len(data)) == data

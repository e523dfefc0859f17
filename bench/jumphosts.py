"""The two jump hosts that are compared, on 127.0.0.1, each configured for this job as its documentation says."""

import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from processes import Started

# The same for both: AES-GCM (chacha costs ten times as much in Python), and one key exchange that every version of both
# knows, so that log-ins are compared and not key exchanges.
CIPHERS = ("aes128-gcm", "aes256-gcm")
CLIENT = (
    "-F", "none", "-T",
    "-o", "KexAlgorithms=curve25519-sha256",
    "-o", "StrictHostKeyChecking=no",
    "-o", "UserKnownHostsFile=/dev/null",
    "-o", "IdentitiesOnly=yes",
    "-o", "IdentityAgent=none",
    "-o", "BatchMode=yes",
    "-o", "LogLevel=ERROR",
    "-o", "Compression=no",
    "-o", "ExitOnForwardFailure=yes",
)  # fmt: skip

SSHD = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {home}/host
AuthorizedKeysFile {home}/authorized_keys
PidFile none
StrictModes no
UsePAM no
UseDNS no
PasswordAuthentication no
KbdInteractiveAuthentication no
AllowTcpForwarding local
AllowStreamLocalForwarding no
AllowAgentForwarding no
X11Forwarding no
PermitTTY no
# without this a key that may forward may also run commands, whatever `restrict` says
MaxSessions 0
MaxStartups 1000:30:1000
LogLevel INFO
"""

# The bench is thousands of connections of one person from one address; sshd's limits above are raised too.
SETTINGS = """\
listen: ["127.0.0.1:{port}"]
workers: {workers}
limits:
  unauthenticated_per_source: 400
  unauthenticated_per_network: 400
  handshakes: 1000
  connections_per_person: 10000
  connections_per_key: 10000
"""

POLICY = """\
zones:
  here: {{networks: [127.0.0.0/8], interface: lo}}
rules:
  - {{name: the bench reaches its targets, allow: [bench], to: [127.0.0.1], ports: [{ports}]}}
"""


@dataclass(frozen=True, slots=True)
class JumpHost:
    """A running jump host: its port, its first process, and its files."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    key: Path
    user: str
    home: Path

    @property
    def pid(self) -> int:
        """The root of its process tree."""
        return self.process.pid

    def ssh(self, *arguments: str, cipher: str = CIPHERS[0]) -> list[str]:
        """The command line of an ssh client that connects to it."""
        there = ["-i", str(self.key), "-p", str(self.port), "-l", self.user]
        return ["ssh", *CLIENT, "-c", f"{cipher}@openssh.com", *there, *arguments, "127.0.0.1"]


def free_port() -> int:
    """A free port of 127.0.0.1."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def make_key(path: Path) -> str:
    """Make a new Ed25519 key; returns the line of its public half."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bench", "-f", str(path)], check=True)
    return path.with_suffix(".pub").read_text()


def sshd_program() -> str:
    """The full path of sshd, which sshd itself requires. Raises SystemExit with the name of the package."""
    program = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if not program:
        raise SystemExit("no sshd to compare with: apt-get install openssh-server")
    return program


def start_sshd(started: Started, home: Path, key: Path) -> JumpHost:
    """OpenSSH's sshd without root: as `daemon` if the bench runs as root, else as the current user."""
    port = free_port()
    if not home.exists():  # otherwise it exists from an earlier start
        home.mkdir(mode=0o755)
        make_key(home / "host")
        shutil.copy(key.with_suffix(".pub"), home / "authorized_keys")
    (home / "config").write_text(SSHD.format(port=port, home=home))
    command = [sshd_program(), "-D", "-e", "-f", str(home / "config")]
    user = pwd.getpwuid(os.geteuid()).pw_name
    if os.geteuid() == 0:
        user = "daemon"  # nss-systemd reports `nobody` as a locked account
        other = pwd.getpwnam(user)
        for path in (home, *home.iterdir()):
            os.chown(path, other.pw_uid, other.pw_gid)
        command = ["setpriv", f"--reuid={other.pw_uid}", f"--regid={other.pw_gid}", "--clear-groups", *command]
    log = (home / "log").open("wb")
    process = started.start(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    await_banner(process, port, home / "log")
    return JumpHost("sshd", process, port, key, user, home)


def start_relay(
    started: Started, home: Path, key: Path, targets: tuple[int, ...], workers: str | int = "auto"
) -> JumpHost:
    """The relay with its own site: one person, one zone on lo, one rule, limits as above, else defaults."""
    port = free_port()
    for directory in (home, home / "keys", home / "policies"):
        directory.mkdir(mode=0o700, exist_ok=True)
    (home / "relay.yaml").write_text(SETTINGS.format(port=port, workers=workers))
    (home / "policies" / "bench.yaml").write_text(POLICY.format(ports=", ".join(map(str, targets))))
    shutil.copy(key.with_suffix(".pub"), home / "keys" / "bench.pub")
    for path in home.rglob("*.*"):
        path.chmod(0o600)
    log = (home / "log").open("wb")
    command = [sys.executable, "-m", "relay", "--site", str(home), "serve"]
    checkout = Path(__file__).resolve().parents[1]
    process = started.start(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=checkout)
    await_banner(process, port, home / "log")
    return JumpHost("relay", process, port, key, "bench", home)


def await_banner(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait at most 30 s until an SSH server answers. Raises SystemExit with the end of its log."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as sock:
                sock.settimeout(5)
                if sock.recv(4) == b"SSH-":
                    return
        except OSError:
            pass
        time.sleep(0.01)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
    raise SystemExit(f"{process.args!r} does not answer on port {port}:\n{tail}")

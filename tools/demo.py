"""`make demo`: a relay, a LAN host and a person on this machine; shows a jump, refusals and the audit log.

    python tools/demo.py [--keep] [--stand-in] | --stop [NUMBER...]

Everything is in .demo/NUMBER and is removed with it. Only addresses in 127.0.0.0/8 are dialled. `--keep` leaves the
demo running, `--stop` ends demos that run, `--stand-in` works without the machine's sshd. Only the standard library is
used, so `make demo-stop` works without the virtual environment.
"""

import contextlib
import json
import os
import pwd
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
HOME = CHECKOUT / ".demo"
PATIENCE = 20.0  # seconds for a started process to answer; a loaded CI machine is slow
LAN_HOST = "127.0.0.201"  # in 127.0.0.0/8, which is this machine; it stands for the LAN 192.168.1.0/24
RECORDER = "127.0.0.50"  # a host that a rule denies to everyone

RELAY_YAML = """\
listen: ["127.0.0.1:{port}"]
public: 127.0.0.1:{port}
"""
POLICY_YAML = """\
zones:
  office: {{networks: [127.0.0.0/24], interface: lo}}
hosts:
  remote: {{address: {lan_host}, zone: office, user: {user}, port: {port}}}
rules:
  - {{name: alice reaches remote by ssh, allow: [alice], to: [remote], ports: [{port}]}}
  - {{name: the recorder is off limits, deny: [everyone], to: [{recorder}]}}
expect:
  - {{who: alice, to: "remote:{port}", verdict: allow}}
  - {{who: alice, to: "{recorder}:{port}", verdict: deny}}
"""
CLIENT_CONFIG = """\
Host relay
  HostName 127.0.0.1
  Port {relay_port}
  User alice
Host remote
  HostName {lan_host}
  Port {lan_port}
  User {user}
Host recorder
  HostName 127.0.0.50
  Port {lan_port}
  User {user}
Host *
  IdentityFile {here}/alice
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile {here}/known_hosts
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  BatchMode yes
  RequestTTY no
"""
SSHD_CONFIG = """\
ListenAddress {lan_host}:{port}
HostKey {here}/lan_host_key
AuthorizedKeysFile {here}/alice.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
"""


class Failure(Exception):
    """A step of the demo did not have the expected result."""


def say(text: str = "") -> None:
    """Print a line without buffering."""
    print(text, flush=True)


def step(number: int, text: str) -> None:
    """Print the heading of a step."""
    say(f"\n{number}. {text}")


def run(command: str, *, good: bool = True, silent: bool = False, shown: str = "") -> str:
    """Print a command as typed, run it, print its output. Raises Failure if its success is not `good`."""
    if not silent:
        say(f"   $ {shown or command}")
    done = subprocess.run(
        shlex.split(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
        errors="replace",
    )
    if not silent:
        for line in done.stdout.splitlines():
            say(f"     {line}")
    if (done.returncode == 0) != good:
        if silent:
            say(done.stdout)
        raise Failure(f"exit status {done.returncode}, expected {'0' if good else 'a failure'}")
    return done.stdout


def free_port(address: str) -> int:
    """A free TCP port, so that several demos can run side by side."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def started_at(pid: int) -> str:
    """Start time of a process in ticks since boot, "" if it has ended; with it a pid is unique."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


class Demo:
    """One run of the demo: its directory and its processes."""

    def __init__(self) -> None:
        HOME.mkdir(exist_ok=True)
        self.here = HOME / str(os.getpid())
        shutil.rmtree(self.here, ignore_errors=True)
        self.here.mkdir(mode=0o700)
        self.site = self.here / "site"
        self.user = pwd.getpwuid(os.getuid()).pw_name

    def start(self, log: str, *command: str | Path) -> subprocess.Popen[bytes]:
        """Start a process that can outlive this one; its output goes to a file."""
        with (self.here / log).open("wb") as out:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                env={name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"},
            )
        with (self.here / "processes").open("a") as file:
            file.write(f"{process.pid} {started_at(process.pid)}\n")
        return process

    def wait_for(self, address: str, port: int, process: subprocess.Popen[bytes], log: str) -> None:
        """Wait until an SSH server answers. Raises Failure on a timeout."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection((address, port), 2) as probe:
                if probe.recv(4) == b"SSH-":
                    return
            time.sleep(0.05)
        raise Failure(
            f"no SSH server answers at {address}:{port}:\n{(self.here / log).read_text(errors='replace')[-3000:]}"
        )

    def lan_host(self) -> int:
        """Start the LAN host, a real sshd if it works, otherwise tools/standin.py; returns its port."""
        port = free_port(LAN_HOST)
        key = self.here / "lan_host_key"
        run(f"ssh-keygen -q -t ed25519 -N '' -C lan-host -f {key}", silent=True)
        (self.here / "lan_known_hosts").write_text(f"[{LAN_HOST}]:{port} {key.with_suffix('.pub').read_text()}")
        sshd = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        if sshd and "--stand-in" not in sys.argv:
            config = self.here / "sshd_config"
            config.write_text(SSHD_CONFIG.format(lan_host=LAN_HOST, port=port, here=self.here))
            if os.getuid() == 0:  # as Debian's start script does; sshd refuses to start as root without it
                Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
            process = self.start("lan_host.log", sshd, "-D", "-e", "-f", config)
            with contextlib.suppress(Failure):
                self.wait_for(LAN_HOST, port, process, "lan_host.log")
                run(f"{self.ssh('-p', str(port))} {self.user}@{LAN_HOST} true", silent=True)
                say(f"   a real sshd listens on {LAN_HOST}:{port}")
                return port
            end(process.pid, started_at(process.pid))
            process.wait()
        standin = CHECKOUT / "tools" / "standin.py"
        process = self.start("lan_host.log", sys.executable, standin, LAN_HOST, str(port), key, self.here / "alice.pub")
        self.wait_for(LAN_HOST, port, process, "lan_host.log")
        why = (
            "the sshd of this machine is not used, or refused the log-in"
            if sshd
            else "there is no sshd on this machine"
        )
        say(f"   {why}: tools/standin.py listens on {LAN_HOST}:{port}")
        return port

    def ssh(self, *options: str) -> str:
        """An ssh command without the user's own configuration, to test the LAN host directly."""
        known, key = self.here / "lan_known_hosts", self.here / "alice"
        return shlex.join(
            ["ssh", "-F", "none", "-o", f"UserKnownHostsFile={known}", "-o", "BatchMode=yes", "-i", str(key), *options]
        )

    def relayctl(self, arguments: str, **more: bool) -> str:
        """Run relayctl of this checkout on the demo's site; printed without the long path."""
        program = Path(sys.executable).parent / "relayctl"
        return run(f"{program} --site {self.site} {arguments}", shown=f"relayctl {arguments}", **more)

    def make_site(self, relay_port: int, lan_port: int) -> None:
        """Write and print the site's files, as an administrator would write them."""
        for directory in (self.site, self.site / "policies", self.site / "keys"):
            directory.mkdir(mode=0o750)
        values = {"lan_host": LAN_HOST, "recorder": RECORDER, "user": self.user, "port": lan_port}
        for name, text in (
            ("relay.yaml", RELAY_YAML.format(port=relay_port)),
            ("policies/office.yaml", POLICY_YAML.format(**values)),
        ):
            (self.site / name).write_text(text)
            say(f"   {self.site.relative_to(CHECKOUT)}/{name}:")
            for line in text.splitlines():
                say(f"     {line}")

    def client_config(self, relay_port: int, lan_port: int) -> Path:
        """Write Alice's ssh configuration and known_hosts, separate from the user's own."""
        host_keys = (self.site / "state").rglob("*.pub")
        known = [f"[127.0.0.1]:{relay_port} {' '.join(path.read_text().split()[:2])}" for path in host_keys]
        (self.here / "known_hosts").write_text("\n".join([*known, (self.here / "lan_known_hosts").read_text()]))
        config = self.here / "ssh_config"
        config.write_text(
            CLIENT_CONFIG.format(
                here=self.here, user=self.user, relay_port=relay_port, lan_port=lan_port, lan_host=LAN_HOST
            )
        )
        return config

    def recorded(self, closed: int, denied: int, refused: int) -> None:
        """Wait until the log has the closing rows, which follow shortly after the end."""
        deadline = time.monotonic() + PATIENCE
        wanted = {"forward.closed": closed, "forward.denied": denied, "request.refused": refused}
        while time.monotonic() < deadline:
            rows = [json.loads(line) for line in self.relayctl("audit tail -n 1000 --json", silent=True).splitlines()]
            names = [row.get("event", row.get("name")) for row in rows]
            if all(names.count(name) >= count for name, count in wanted.items()):
                return
            time.sleep(0.1)
        raise Failure(f"the audit log lacks some of {wanted}: {names}")

    def play(self) -> None:
        """Run all steps. Raises Failure on an unexpected result."""
        relay_port = free_port("127.0.0.1")
        step(1, "Make a key for alice, and start a LAN host that accepts it")
        run(f"ssh-keygen -q -t ed25519 -N '' -C alice@laptop -f {self.here / 'alice'}", silent=True)
        lan_port = self.lan_host()

        step(2, "Write a site: the network `office` is reached through lo; alice may reach one host in it")
        self.make_site(relay_port, lan_port)
        self.relayctl(f"add-key alice {self.here / 'alice.pub'}")
        self.relayctl("check")

        step(3, "Start the relay")
        relay = self.start("relay.log", Path(sys.executable).parent / "relayctl", "--site", self.site, "serve")
        self.wait_for("127.0.0.1", relay_port, relay, "relay.log")
        say(f"   relayctl serve: listens on 127.0.0.1:{relay_port}")
        ssh = f"ssh -F {self.client_config(relay_port, lan_port)}"
        typed = f"ssh -F {(self.here / 'ssh_config').relative_to(CHECKOUT)}"

        step(4, "Jump: alice reaches the LAN host through the relay")
        hello = "echo hello from the LAN host, your connection comes from ${SSH_CONNECTION%% *}"
        run(f"{ssh} -J relay remote {shlex.quote(hello)}", shown=f"ssh -J relay remote '{hello}'")

        step(5, "Refused: a shell on the relay, and a host that the policy denies")
        said = run(f"{ssh} relay", good=False, shown="ssh relay")
        if "no shell" not in said:
            raise Failure("the refusal of a shell does not explain itself")
        said = run(f"{ssh} -J relay recorder", good=False, shown="ssh -J relay recorder")
        if "may not reach" not in said:
            raise Failure("the refusal of the target does not explain itself")

        step(6, "Read the audit log: exactly these events")
        self.recorded(closed=1, denied=1, refused=1)
        self.relayctl("audit search")
        if KEEP:
            self.say_what_to_type(typed, lan_port)

    def say_what_to_type(self, ssh: str, lan_port: int) -> None:
        """Print commands to try while the demo keeps running."""
        relayctl = (
            f"{Path(sys.executable).parent.relative_to(CHECKOUT)}/relayctl --site {self.site.relative_to(CHECKOUT)}"
        )
        say("\nThe demo is still running. Try, in this directory:")
        for line in (
            f"{ssh} -J relay remote",
            f"{relayctl} audit tail -f",
            f"{relayctl} explain alice remote:{lan_port}",
        ):
            say(f"  {line}")
        say("To end it:\n  make demo-stop")

    def clear(self) -> None:
        """End all processes of the demo and remove its directory."""
        with contextlib.suppress(FileNotFoundError):
            for line in reversed((self.here / "processes").read_text().splitlines()):
                number, _, since = line.partition(" ")
                end(int(number), since)
        for entry in Path("/proc").glob(
            "[0-9]*"
        ):  # a worker whose supervisor was killed; its command line names the directory
            with contextlib.suppress(OSError):
                if f"{self.site}/".encode() in (entry / "cmdline").read_bytes() + b"/":
                    end(int(entry.name), started_at(int(entry.name)))
        shutil.rmtree(self.here, ignore_errors=True)


def end(pid: int, since: str) -> None:
    """Terminate a process, identified by pid and start time, and kill it if it does not end."""
    for kind, patience in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 2.0)):
        deadline = time.monotonic() + patience
        with contextlib.suppress(ProcessLookupError):
            if started_at(pid) == since != "":
                os.kill(pid, kind)
        while started_at(pid) == since != "" and time.monotonic() < deadline:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            time.sleep(0.02)


def stop() -> None:
    """End the demos that are still running here, or those with the given numbers."""
    numbers = [argument for argument in sys.argv if argument.isdigit()]
    for directory in sorted(HOME.glob("[0-9]*")):
        if numbers and directory.name not in numbers:
            continue
        demo = Demo.__new__(Demo)
        demo.here, demo.site = directory, directory / "site"
        demo.clear()
        say(f"ended {directory.relative_to(CHECKOUT)}")


def main() -> int:
    """Run the demo; returns the exit status."""
    began = time.monotonic()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    demo = Demo()
    kept = False
    try:
        demo.play()
        kept = KEEP
    except BrokenPipeError:  # the reader of the output has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (Failure, subprocess.TimeoutExpired, OSError) as error:
        say(f"\nthe demo failed: {error}")
        for log in ("relay.log", "lan_host.log"):
            with contextlib.suppress(OSError):
                say(f"--- {log}\n{(demo.here / log).read_text(errors='replace')[-4000:]}")
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        if not kept:
            demo.clear()
    removed = "" if kept else " The relay and its files were removed; .venv stays (make clean)."
    say(f"\nEverything worked, in {time.monotonic() - began:.1f} s.{removed}")
    return 0


KEEP = "--keep" in sys.argv
if __name__ == "__main__":
    if "--stop" in sys.argv:
        stop()
    else:
        sys.exit(main())

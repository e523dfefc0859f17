"""Machines for a test: namespaces with a network, a host name and an /etc, /run, /var/lib and /var/log of their own.

    with World() as world:
        one, other = world.machine("one"), world.machine("other")
        one.cable("eth0", other, "eth0")

As root, and without root in a user namespace of its own (`rootless=True` takes that way as root too). All machines
live in one process namespace whose first process waits for the end of a pipe that only this process holds: so nothing
outlives us, also when we are killed. Nothing of it is on disk: what a machine writes lies in memory.
"""

import contextlib
import os
import pwd
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

CHECKOUT = Path(__file__).parents[2]
HOME = "/var/lib/home"  # not /home and not /root: the checkout or its Python may lie there
ARP_RETRY = 150  # ms; a silent neighbour is given up after three: the kernel's own 3 s are long in a test
PATIENCE = 20.0  # s until something that was started must answer; a loaded CI machine is slow
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DROPPED = {"root", "relay", "ubuntu"}  # accounts of this machine's own that the lab's must not meet

# `cat` is not exec'd: as the first process, sh reaps those whose parents ended before them
_WORLD = """
set -eu
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/etc
cp -a /etc/. /run/etc 2>/dev/null || :  # without root some files cannot be read: none that we need
rm -rf /run/etc/relay /run/etc/relay-net /run/etc/shadow /run/etc/gshadow
echo ready
cat >/dev/null
exit
"""
_MACHINE = """
set -eu
mount --make-rprivate /
mkdir -p /run/$1/up /run/$1/work
mount -t overlay -o lowerdir=/run/etc,upperdir=/run/$1/up,workdir=/run/$1/work overlay /etc
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=755 tmpfs /var/lib
mount -t tmpfs -o mode=755 tmpfs /var/log
mount -t sysfs sysfs /sys 2>/dev/null || :  # /sys/class/net of this machine; not everybody may
mkdir -p /run/lock /run/sshd $2/root /var/lib/zerotier-one
chmod 700 $2/root
echo $1 >/etc/hostname
hostname $1
ip link set lo up
echo $$
exec sleep infinity
"""


def wait_for(what: Callable[[], Any], why: str, seconds: float = PATIENCE) -> Any:
    """What `what` gives as soon as it is true; fails with `why` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, why
        time.sleep(0.01)
    return found


class World:
    """The process namespace (and without root the user namespace) that all machines share."""

    def __init__(self, *, rootless: bool | None = None) -> None:
        """`rootless` None: as this process is. Raises AssertionError with what unshare(1) says."""
        self.rootless = os.geteuid() != 0 if rootless is None else rootless
        self.machines: dict[str, Machine] = {}
        user = ["--user", "--map-root-user"] if self.rootless else []
        apart = [*user, "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
        self._outer = subprocess.Popen(
            ["unshare", *apart, "sh", "-c", _WORLD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._outer.stdout is not None
        if self._outer.stdout.readline() != b"ready\n":
            raise AssertionError(f"no namespaces can be made: {self._outer.communicate()[1].decode()}")
        self.pid = only_child(self._outer.pid)
        user = ["--user", "--preserve-credentials"] if self.rootless else []
        self.enter = ["nsenter", *user, "--pid", "--mount", "--net", "-t"]
        self._accounts()

    def _accounts(self) -> None:
        """root with a home in memory, and ubuntu, the user of the LAN hosts."""
        here = [f"{one.pw_name}:x:{one.pw_uid}:{one.pw_gid}::{one.pw_dir}:{one.pw_shell}" for one in pwd.getpwall()]
        here = [line for line in here if line.split(":")[0] not in _DROPPED and line.split(":")[2] != "1000"]
        ours = [f"root:x:0:0:root:{HOME}/root:/bin/bash", f"ubuntu:x:1000:1000:ubuntu:{HOME}/ubuntu:/bin/bash"]
        etc = Path(f"/proc/{self.pid}/root/run/etc")
        (etc / "passwd").write_text("\n".join([*ours, *here]) + "\n")
        (etc / "shadow").write_text("root:*:20000:0:99999:7:::\nubuntu:*:20000:0:99999:7:::\n")
        groups = [line for line in Path("/etc/group").read_text().splitlines() if line.split(":")[2] != "1000"]
        groups = [line for line in groups if line.split(":")[0] not in _DROPPED]
        (etc / "group").write_text("\n".join(["root:x:0:", "ubuntu:x:1000:", *groups]) + "\n")

    def machine(self, name: str) -> "Machine":
        """A new machine with nothing but lo."""
        made = self.machines[name] = Machine(self, name)
        return made

    def built(self, *names: str) -> "list[Machine]":
        """Several machines, started side by side."""
        for name in names:
            self.machine(name)
        return [self.machines[name].ready() for name in names]

    def close(self) -> None:
        """End every process of every machine; the kernel takes the namespaces and all that is in them."""
        for machine in self.machines.values():
            machine.close()
        self._outer.kill()
        for stream in (self._outer.stdin, self._outer.stdout, self._outer.stderr):
            assert stream is not None
            stream.close()
        self._outer.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class Machine:
    """One machine. What needs it to be there waits until it is."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self._pid = self._inner = 0
        self._running: list[Running] = []
        apart = [*world.enter, str(world.pid), "--", "unshare", "--net", "--mount", "--uts"]
        self._holder = subprocess.Popen(
            [*apart, "sh", "-c", _MACHINE, "machine", name, HOME],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": _PATH},
        )

    def ready(self) -> "Machine":
        """Wait until its namespaces are there."""
        if not self._pid:
            assert self._holder.stdout is not None
            line = self._holder.stdout.readline()
            if not line:
                raise AssertionError(f"no machine {self.name}: {self._holder.communicate()[1].decode()}")
            self._inner = int(line)
            self._pid = only_child(self._holder.pid)
        return self

    @property
    def pid(self) -> int:
        """Its holder, as this process sees it."""
        return self.ready()._pid

    @property
    def inner(self) -> int:
        """Its holder as the machines see it: what `ip link ... netns` takes."""
        self.ready()
        return self._inner

    # ---- commands

    def command(self, *words: str) -> list[str]:
        """What to start from here so that it runs in there."""
        return [*self.world.enter, str(self.pid), "--uts", "--", *words]

    def environ(self, **more: str) -> dict[str, str]:
        """A log-in's environment; PYTHONPATH is kept for a checkout that is not installed."""
        found = {"PATH": _PATH, "HOME": f"{HOME}/root", "LANG": "C.UTF-8", "USER": "root", "LOGNAME": "root", **more}
        if "PYTHONPATH" in os.environ:
            found["PYTHONPATH"] = os.environ["PYTHONPATH"]
        return found

    def done(
        self, *words: str, stdin: str | None = None, seconds: float = 60, **environ: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run one command as root, whatever its status."""
        return subprocess.run(
            self.command(*words),
            input="" if stdin is None else stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            env=self.environ(**environ),
            check=False,
        )

    def run(self, *words: str, stdin: str | None = None, seconds: float = 60, **environ: str) -> str:
        """Run one command as root; what it prints. Any status but 0 fails."""
        done = self.done(*words, stdin=stdin, seconds=seconds, **environ)
        assert done.returncode == 0, (
            f"{self.name}: {shlex.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}{stdin or ''}"
        )
        return done.stdout

    def sh(self, script: str, seconds: float = 60, **environ: str) -> str:
        """Run lines of shell."""
        return self.run("sh", "-euc", script, seconds=seconds, **environ)

    def ip(self, *lines: str) -> None:
        """Run ip(8) once for all lines."""
        self.run("ip", "-batch", "-", stdin="\n".join(lines) + "\n")

    def relayctl(self, *words: str, site: str = "/etc/relay", status: int | None = 0) -> str:
        """Run relayctl there; stdout and stderr. `status` is the expected one, None for any."""
        done = self.done(sys.executable, "-P", "-m", "relay", "--site", site, *words)
        assert status is None or done.returncode == status, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def relayctl_out(self, *words: str) -> str:
        """What relayctl prints on stdout alone: a script, say."""
        return self.run(sys.executable, "-P", "-m", "relay", "--site", "/etc/relay", *words)

    def wait(self, condition: str, why: str) -> None:
        """Until a line of shell succeeds there."""
        wait_for(lambda: self.done("sh", "-c", condition).returncode == 0, f"{self.name}: {why}")

    def start(self, *words: str, log: str = "/run/started.log", **environ: str) -> "Running":
        """Start a process that goes on; what it says is appended to a file there."""
        running = Running(self, words, log, self.environ(**environ))
        self._running.append(running)
        return running

    # ---- files

    def path(self, path: str) -> Path:
        """A file of the machine, to be opened from here; do not resolve() it."""
        return Path(f"/proc/{self.pid}/root{path}")

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file, with the directories it needs."""
        file = self.path(path)
        file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    # ---- network

    def cable(self, name: str, other: "Machine", there: str, mtu: int = 1500, mac: str = "") -> None:
        """A cable: a veth pair whose ends are `name` here (`mac` "": any address) and `there` there, both up."""
        mac = f"address {mac}" if mac else ""
        self.ip(
            f"link add {name} mtu {mtu} {mac} type veth peer name {there} mtu {mtu} netns {other.inner}",
            f"link set {name} up",
            f"ntable change name arp_cache dev {name} retrans {ARP_RETRY}",
        )
        other.ip(f"link set {there} up", f"ntable change name arp_cache dev {there} retrans {ARP_RETRY}")

    def sysctl(self, **values: object) -> None:
        """Kernel settings below net., with __ for the dots: ipv4__ip_forward=1."""
        for name, value in values.items():
            path = "/proc/sys/net/" + name.replace("__", "/")
            self.run("sh", "-c", f"echo {value} >{path}")

    def nft(self, rules: str) -> None:
        """Load rules."""
        self.run("nft", "-f", "-", stdin=rules)

    def close(self) -> None:
        """Give back what this process holds of it; its processes end with the world."""
        for running in self._running:
            running.end()
        self._holder.kill()
        for stream in (self._holder.stdout, self._holder.stderr):
            assert stream is not None
            stream.close()
        self._holder.wait()


class Running:
    """A process in a machine that was started and not waited for."""

    def __init__(self, machine: Machine, words: tuple[str, ...], log: str, environ: dict[str, str]) -> None:
        self._log = machine.path(log)
        self.outer = subprocess.Popen(
            machine.command("sh", "-c", 'log=$1; shift; exec "$@" >>"$log" 2>&1', "sh", log, *words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environ,
        )

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.outer.poll() is None

    def log(self) -> str:
        """What it has said."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def send(self, number: int) -> None:
        """Send it a signal (nsenter, which is our child, waits for it and passes none on)."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError, AssertionError):
                os.kill(only_child(self.outer.pid), number)

    def end(self, number: int = signal.SIGKILL) -> int:
        """End it; its status."""
        self.send(number)
        return self.outer.wait(PATIENCE)


def only_child(pid: int) -> int:
    """The process that unshare or nsenter has forked."""
    children = Path(f"/proc/{pid}/task/{pid}/children")

    def look() -> int:
        try:
            found = children.read_text().split()
            if not found and ") Z " in Path(f"/proc/{pid}/stat").read_text():
                return -1
            return int((found or ["0"])[0])
        except FileNotFoundError:
            return -1

    found = int(wait_for(look, f"{pid} has no child"))
    assert found > 0, f"{pid} has ended"
    return found

"""A machine to install on: systemd booted in namespaces of its own, on a throw-away overlay of this one's file system.

Nothing that happens in it is seen outside: files lie in memory, the network has no way out, and all of it ends with one
process. Behind its interface zt0 stands the office of the README: a gateway 172.18.0.200 and the host 192.168.1.201.
"""

import os
import subprocess
import time
from pathlib import Path

# What a container manager does before it starts systemd; kernel settings and modules are this machine's, so they stay.
_BOOT = r"""
set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
mkdir "$1/up" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/up,workdir=$1/work" "$1/root"
cd "$1/root"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
for made in run tmp dev; do mount -t tmpfs tmpfs $made; done
chmod 1777 tmp
for held in $2; do mkdir -p "./$held"; mount --rbind "$held" "./$held"; done
for node in null zero full random urandom tty; do touch dev/$node; mount --bind /dev/$node dev/$node; done
mkdir dev/pts dev/shm run/sshd
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
: > etc/machine-id
for unit in systemd-sysctl systemd-modules-load systemd-udevd systemd-logind ssh; do
    ln -sf /dev/null etc/systemd/system/$unit.service
done
rm -rf etc/relay var/lib/relay opt/relay usr/local/bin/relayctl etc/systemd/system/relay.* etc/sysusers.d/relay.conf
ip link set lo up
mkdir old
pivot_root . old
umount -l /old
exec env -i container=relay-test PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=multi-user.target --log-target=console --show-status=no
"""

_OFFICE = r"""
set -eu
ip netns add office
ip link add zt0 type veth peer name up0 netns office
ip address add 172.18.0.10/24 dev zt0
ip link set zt0 up
ip route add 192.168.1.0/24 via 172.18.0.200 dev zt0
ip -n office address add 172.18.0.200/24 dev up0
ip -n office address add 192.168.1.201/32 dev lo
ip -n office link set lo up
ip -n office link set up0 up
"""


class Machine:
    """One booted machine. Use as a context manager."""

    def __init__(self, work: Path, shared: tuple[Path, ...] = ()) -> None:
        """`work` an empty directory; `shared` directories that it sees as they are, at the same place."""
        self._work = work
        self._shared = shared
        self._log = work.parent / f"{work.name}.log"
        self.environ: dict[str, str] = {}  # for those who want it in every call of `run`
        self._cgroup = _cgroup() / f"relay-test-{os.getpid()}-{work.name}"

    def __enter__(self) -> "Machine":
        self._cgroup.mkdir()
        enter = f"echo $$ > {self._cgroup}/cgroup.procs && exec setpriv --pdeathsig KILL unshare --mount --pid --fork"
        unshare = f'{enter} --kill-child --net --uts --ipc --cgroup bash -c "$1" boot "$2" "$3"'
        shared = " ".join(str(path) for path in self._shared)
        with self._log.open("wb") as log:
            self._outer = subprocess.Popen(
                ["bash", "-c", unshare, "outer", _BOOT, self._work, shared],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            self._wait_until_booted()
            self.run(_OFFICE)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _wait_until_booted(self) -> None:
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children")
        deadline = time.monotonic() + 60
        state = ""
        while time.monotonic() < deadline and self._outer.poll() is None:
            self.pid = int((children.read_text().split() or ["0"])[0])
            if self.pid and Path(f"/proc/{self.pid}/comm").read_text() == "systemd\n":
                state = self._enter("systemctl is-system-running").stdout.strip()
                if state in ("running", "degraded"):
                    return
            time.sleep(0.1)
        raise AssertionError(f"systemd did not boot ({state}):\n{self._log.read_text(errors='replace')[-3000:]}")

    def _enter(self, script: str, timeout: float = 300, **environ: str) -> "subprocess.CompletedProcess[str]":
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        clean = {"PATH": path, "HOME": "/root", "LANG": "C.UTF-8", "CI": "true", **environ}
        return subprocess.run(
            ["nsenter", "-t", str(self.pid), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "bash", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=clean,
            timeout=timeout,
        )

    def run(self, script: str, timeout: float = 300, **environ: str) -> str:
        """Run a shell script as root in the machine; what it said. A failure shows all of it, and the journal."""
        done = self._enter(script, timeout, **environ)
        if done.returncode:
            journal = self._enter("journalctl --no-pager -n 40 -o cat -u relay.service -u relay.socket").stdout
            raise AssertionError(f"{script}\nended with {done.returncode}:\n{done.stdout}\n--- journal\n{journal}")
        return done.stdout

    def __exit__(self, *_: object) -> None:
        self._outer.kill()
        self._outer.wait()
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                for directory, _, _ in os.walk(self._cgroup, topdown=False):
                    os.rmdir(directory)
                return
            except OSError:  # its last processes are still ending
                time.sleep(0.1)


def _cgroup() -> Path:
    """Our own place in the unified cgroup hierarchy (cgroups(7)), under which a machine gets a group of its own."""
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    root = next(fields[1] for fields in mounts if fields[2] == "cgroup2")
    ours = next(line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
    return Path(root) / ours.lstrip("/")

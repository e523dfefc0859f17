"""Description of the machine and the programs that were measured."""

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from jumphosts import sshd_program


def processor() -> str:
    """The model of the CPU, as the kernel names it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def ssh_version(program: str) -> str:
    """The version from `-V`; an sshd too old for -V prints it in its error message."""
    done = subprocess.run([program, "-V"], capture_output=True, text=True)
    lines = [line for line in (done.stderr + done.stdout).splitlines() if line.startswith("OpenSSH")]
    return lines[0].split(",")[0] if lines else "unknown"


def commit() -> str:
    """The commit of the checkout, marked if files of the relay differ from it."""
    here = Path(__file__).parent
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=here)
    dirty = subprocess.run(["git", "status", "--porcelain", "../relay"], capture_output=True, text=True, cwd=here)
    return (head.stdout.strip() or "no checkout") + (" with changes" if dirty.stdout.strip() else "")


def load() -> float:
    """The load average of the last minute."""
    return os.getloadavg()[0]


def described() -> list[str]:
    """The description as lines of a Markdown list."""
    kib = int(Path("/proc/meminfo").read_text().split()[1])
    found = {one.name.lower(): one.version for one in metadata.distributions()}
    packages = ", ".join(f"{name} {found[name]}" for name in ("asyncssh", "cryptography", "uvloop") if name in found)
    return [
        f"- machine: {processor()}, {len(os.sched_getaffinity(0))} cores, {kib / 1024 / 1024:.0f} GiB, "
        f"{platform.system()} {platform.release()} ({platform.machine()})",
        f"- sshd: {ssh_version(sshd_program())}; client: {ssh_version('ssh')}",
        f"- relay: {metadata.version('ssh-jump-relay')} (commit {commit()}), Python {sys.version.split()[0]}, "
        f"{packages}",
    ]

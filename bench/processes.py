"""CPU and memory of process trees, from /proc; and the processes that the bench starts."""

import contextlib
import os
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

TICKS = os.sysconf("SC_CLK_TCK")


def tree(root: int) -> list[int]:
    """The process `root` and its living descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children.get(pid, [])
    return found


def cpu_now(pids: list[int]) -> float:
    """CPU seconds of all threads of these living processes, to a microsecond."""
    spent = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                spent += int((task / "schedstat").read_text().split()[0])
    return spent / 1e9


def cpu_with_ended(pids: list[int]) -> float:
    """Like `cpu_now`, with ended children, whose time is exact to a clock tick (10 ms) per parent."""
    ended = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ended += int(fields[13]) + int(fields[14])  # cutime, cstime
    return cpu_now(pids) + ended / TICKS


def memory(pids: list[int]) -> float | None:
    """MiB of memory in all, as proportional set size: a page that n processes share counts 1/n in each.

    None where the kernel does not let us read it (sshd hides its processes from all but root).
    """
    kib = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except ProcessLookupError:
            continue
        except OSError:
            return None
        kib += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return kib / 1024


def written(pids: list[int]) -> int:
    """Bytes that these processes wrote by write(2): for an ssh client, its output and a little more."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            total += int(Path(f"/proc/{pid}/io").read_text().partition("wchar:")[2].split()[0])
    return total


class Started:
    """The processes that the bench started, all of which are ended on exit."""

    def __init__(self) -> None:
        self._all: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end(*reversed(self._all))

    def start(self, command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        """Start a process and remember it."""
        process = subprocess.Popen(command, **options)
        self._all.append(process)
        return process

    def end(self, *processes: subprocess.Popen[bytes], patience: float = 10.0) -> None:
        """Close the pipes, terminate the processes, and kill them after `patience` seconds."""
        for process in processes:
            for pipe in (process.stdin, process.stdout, process.stderr):
                _close(pipe)
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + patience
        for process in processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process in self._all:
                self._all.remove(process)


def _close(pipe: IO[bytes] | None) -> None:
    if pipe is not None:
        with contextlib.suppress(OSError):
            pipe.close()

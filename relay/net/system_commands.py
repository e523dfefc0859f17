"""System commands (nft, ip, ping, systemctl ...), run with bounded time and output.

For the command line only: a serving process starts nothing but its own workers.
"""

import contextlib
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from relay.core.escape import escape
from relay.errors import RelayError

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # also where PATH leaves sbin out
_MOST = 16 << 20  # letters of an answer that are kept; a table of 10,000 prefixes is about 1 MB

# what a program is called in Debian; elsewhere the names are near enough to be found
_PACKAGES = {
    "nft": "nftables",
    "ip": "iproute2",
    "ping": "iputils-ping",
    "unshare": "util-linux",
    "systemctl": "systemd",
    "zerotier-cli": "zerotier-one",
    "sh": "dash",
}


@dataclass(frozen=True, slots=True)
class CommandResult:
    """Result of a program: exit status (negative: the signal), standard output, standard error."""

    status: int
    output: str
    complaint: str

    @property
    def why(self) -> str:
        """The complaint on one line, fit to be shown; what was printed if there was none."""
        said = self.complaint.strip() or self.output.strip() or f"it ended with {self.status}"
        return escape("; ".join(line.strip() for line in said.splitlines() if line.strip())[:1000], 500)


def find(name: str) -> Path:
    """The path of a program. Raises RelayError naming the package that has it."""
    found = shutil.which(name, path=SYSTEM_PATH)
    if found is None:
        package = _PACKAGES.get(name, name)
        raise RelayError(f"the program {name} is not there", f"install its package: apt-get install {package}")
    return Path(found)


def run(name: str, *arguments: str, input: str = "", timeout: float = 10, keep: tuple[int, ...] = ()) -> CommandResult:
    """Run a program to its end, with `input` on its standard input and in English. `keep`: descriptors it is given.

    It has a session of its own, so that a Ctrl-C meant for us does not tear it in half. Raises RelayError when the
    program is not there, cannot be started or takes longer than `timeout` seconds (it and its children are killed).
    """
    program = find(name)
    try:
        process = subprocess.Popen(  # noqa: S603 - a list of words, no shell; the path is the system's own
            [program, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="backslashreplace",
            env={"PATH": SYSTEM_PATH, "LC_ALL": "C", "HOME": "/", "SYSTEMD_PAGER": ""},
            cwd="/",
            pass_fds=keep,
            start_new_session=True,
        )
    except OSError as error:
        raise RelayError(f"{program} cannot be started: {error.strerror}", "look at its owner and mode") from None
    with process:
        try:
            output, complaint = process.communicate(input, timeout)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                words = " ".join((name, *arguments))
                raise RelayError(
                    f"{escape(words, 120)} did not end within {timeout:g} s", "look at what it waits for"
                ) from None
            raise
    return CommandResult(process.returncode, output[:_MOST], complaint[:_MOST])


def demand(name: str, *arguments: str, input: str = "", timeout: float = 10, keep: tuple[int, ...] = ()) -> str:
    """Output of a program that must succeed. Raises RelayError as `run` does, and when its status is not 0."""
    ended = run(name, *arguments, input=input, timeout=timeout, keep=keep)
    if ended.status:
        words = " ".join((name, *arguments))
        raise RelayError(f"{escape(words, 120)}: {ended.why}")
    return ended.output

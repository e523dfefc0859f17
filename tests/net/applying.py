# ruff: noqa: T201 - it is a program: what it finds out is printed
"""A program that a test runs in a machine of its own: applies, undoes, is killed on the way, and tells what is there.

python applying.py VERB [KNOB ...]: see `main`. The machine applied is the relay host of the network plan.
"""

import difflib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

from relay.core.network_plan import NetworkPlan, Overlay
from relay.core.policy.model import Zone
from relay.errors import RelayError
from relay.net.apply import journal, preview, transaction
from relay.net.plan.machine import Machine
from relay.net.plan.relay_host import relay_machine

WATCHED = ("/etc/relay-net", "/etc/systemd/system/relay-net.service", "/etc/elsewhere")
SETTINGS = ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv4/conf/zt0/rp_filter")
_UNITS = "/etc/systemd/system"
_CHANGES = frozenset({"os.rename", "os.remove", "os.mkdir", "os.rmdir"})
_PROGRAMS = {"sh", "nft", "ip", "systemctl"}
_LOOKS = {"list", "show", "is-enabled", "is-active"}


def machine(knobs: Iterable[str]) -> Machine:
    """The relay host with one zone in both families. Knobs: method2, managed, elsewhere (a file more).

    Knobs for how `up` ends: bad fails, lazy leaves a route out, slow waits for /run/wait, stuck fails and leaves a
    directory read-only.
    """
    zone = Zone("office", (ip_network("192.168.1.0/24"), ip_network("fdaa::/64")), "zt*", ip_address("172.18.0.200"))
    overlay = Overlay(zone, network=ip_network("172.18.0.0/24"), managed="managed" in knobs)
    made = relay_machine(NetworkPlan((overlay,)), method=2 if "method2" in knobs else 1)
    ends = {
        "lazy": "ip route del unreachable 192.168.1.0/24\n",
        "bad": "echo up has failed >&2\nexit 3\n",
        "stuck": f"mount --bind {_UNITS} {_UNITS}\nmount -o remount,bind,ro {_UNITS}\nexit 4\n",
        "slow": "mkfifo /run/wait\ncat /run/wait\n",
    }
    for knob, end in ends.items():
        if knob in knobs:
            files = tuple(replace(at, text=at.text + end) if at.path == made.up else at for at in made.files)
            made = replace(made, files=files)
    if "elsewhere" in knobs:
        made = replace(made, files=(*made.files, replace(made.files[0], path="/etc/elsewhere/deep/rules.nft")))
    return made


def state() -> dict[str, object]:
    """Everything that may change, so that two moments can be compared."""
    files = {}
    for place in WATCHED:
        for path in [Path(place), *sorted(Path(place).rglob("*"))]:
            if path.exists():
                text = path.read_text() if path.is_file() else ""
                files[str(path)] = [oct(path.stat().st_mode), path.stat().st_uid, text]
    kernel = [
        subprocess.run(command.split(), capture_output=True, text=True, check=True).stdout
        for command in ("nft -s list ruleset", "ip -4 -N route show table all", "ip -6 -N route show table main")
    ]
    settings = [Path("/proc/sys", name).read_text() for name in SETTINGS]
    return {"files": files, "kernel": kernel, "settings": settings}


def perform(wanted: Machine, *, force: bool = False, say: Callable[[str], None] = lambda _: None) -> str:
    """One run as the command does it: `nothing` or the diff."""
    with journal.locked() as lock:
        transaction.recover(say)
        found = preview.preview_changes(wanted, force=force)
        if found.is_empty:
            return "nothing"
        transaction.apply_changes(found, say, lock)
        return "\n".join(preview.diff_lines(found))


def in_child(work: Callable[[], object]) -> int:
    """The wait status of a child that does the work."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(9)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def changes(event: str, arguments: tuple[object, ...]) -> bool:
    """Whether this audit event (docs.python.org, audit events table) is about to change the system."""
    if event == "open":
        flags = arguments[2]
        return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR)) and arguments[0] != os.devnull
    if event == "subprocess.Popen":
        words = [str(word) for word in arguments[1]]  # type: ignore[attr-defined]  # a list, as JSON gave it
        return Path(words[0]).name in _PROGRAMS and not _LOOKS.intersection(words)
    return event in _CHANGES


def killed_at(number: int, work: Callable[[], object]) -> Callable[[], object]:
    """`work`, ended by SIGKILL just before its change `number`; 0 counts them into the file /run/count."""

    def doomed() -> None:
        seen = 0

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal seen
            if not changes(event, arguments):
                return
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        work()
        total = seen
        number or Path("/run/count").write_text(str(total))

    return doomed


def kills(before: Machine, after: Machine) -> int:
    """Kill the way from `before` to `after` at each change; whoever comes next finds one of the two. How many."""
    perform(before)
    start = state()
    assert in_child(killed_at(0, lambda: perform(after))) == 0
    end = state()
    total = int(Path("/run/count").read_text())
    for number in range(1, total + 1):
        perform(before)
        same(start, f"before {number}")
        ended = in_child(killed_at(number, lambda: perform(after)))
        assert ended == signal.SIGKILL, f"{number} of {total}: {ended}"
        if number % 3 == 0:  # each third one goes on, the others turn back
            perform(after)
            same(end, f"went on after {number}")
    perform(before)
    same(start, "at the end")
    return total


def same(expected: dict[str, object], when: str) -> None:
    """That everything is as it was then, else what differs."""
    texts = [json.dumps(at, indent=1).splitlines() for at in (expected, state())]
    assert texts[0] == texts[1], "\n".join([when, *difflib.unified_diff(*texts, lineterm="", n=1)])


def main(verb: str, *knobs: str) -> None:
    """state | apply | undo | kills-apply | kills-change | kills-undo; prints JSON, and lines on the way to stderr."""
    nothing, wanted = transaction.EMPTY_MACHINE, machine(knobs)
    ways = {
        "kills-apply": (nothing, wanted),
        "kills-change": (machine(["managed"]), wanted),
        "kills-undo": (wanted, nothing),
    }
    try:
        if verb == "state":
            print(json.dumps(state()))
        elif verb in ways:
            print(json.dumps(kills(*ways[verb])))
        else:
            chosen = nothing if verb == "undo" else wanted
            print(json.dumps(perform(chosen, force="force" in knobs, say=lambda line: print(line, file=sys.stderr))))
    except RelayError as error:
        print(json.dumps({"what": error.what, "hint": error.hint}))


main(*sys.argv[1:])

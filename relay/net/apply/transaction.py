"""All-or-nothing change of the relay host to what the plan says.

First the journal is written with everything that may change. Then come the files, systemd (or `up` itself), and a check
that the kernel is as planned; only then the record is written and the journal removed. After a failure the journal is
used to roll back; if this process is killed, the next run does that. An undo is the same with a machine of no files.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from relay.errors import RelayError
from relay.net import system_commands
from relay.net.apply import journal, kernel_state, managed_files, preview
from relay.net.apply.journal import ApplyJournal
from relay.net.apply.kernel_state import KernelState
from relay.net.apply.managed_files import FileContent
from relay.net.apply.preview import ApplyPreview
from relay.net.plan.machine import OWN, UNIT, WAS, Machine

EMPTY_MACHINE = Machine("relay")  # the machine of `--undo`
Report = Callable[[str], None]  # is given one line for each thing done

_UP_SECONDS = 60.0  # for `up` and `down`: a dozen calls of ip and nft, on a slow machine
_UNIT_SECONDS = 100.0  # systemd gives a unit 90
_SETTLE_SECONDS = 10.0  # a service that sets routes on its own may be a moment behind


def recover(report: Report) -> bool:
    """Roll back a run that was cut off; returns whether there was one. Hold `journal.locked`.

    Raises RelayError when something could not be put back; the journal stays then.
    """
    before = journal.read_journal()
    if before is None:
        managed_files.sweep(journal.JOURNAL)
        managed_files.remove_directories([OWN])  # where not even the journal was begun
        return False
    report("an earlier run was cut off: going back to what was before it")
    with _undisturbed():
        _roll_back(before, report)
    return True


def apply_changes(found: ApplyPreview, report: Report, lock: int) -> None:
    """Carry out the previewed changes. `lock`: the descriptor of `journal.locked`, held by `up` too.

    Raises RelayError when it failed and everything is as before; also when going back failed, saying so.
    """
    before = _journal(found)
    journal.make_own_directory()
    journal.write_journal(before)
    try:
        if found.machine.files:
            _up(found, report, lock)
        else:
            _down(found, report, lock)
        _verify(found)
        with _undisturbed():
            _finish(found)
    except BaseException as error:
        with _undisturbed():
            report_quietly = _suppressing(report)
            report_quietly("failed: going back to what was before")
            try:
                _roll_back(before, report_quietly)
            except RelayError as worse:
                why = error.what if isinstance(error, RelayError) else type(error).__name__
                raise RelayError(f"{why}; {worse.what}", worse.hint) from None
        if isinstance(error, RelayError):
            raise RelayError(f"{error.what}; everything is as before", error.hint) from None
        raise


def _journal(found: ApplyPreview) -> ApplyJournal:
    """The present state of everything that this run may change."""
    paths = dict.fromkeys([*(change.path for change in found.files), WAS, journal.RECORD])
    files = {path: managed_files.read_file(path) for path in paths}
    for change in found.files:  # a person was asked meanwhile, and another may have edited it
        if files[change.path] != change.before:
            raise RelayError(f"{change.path} was changed meanwhile", "look at the difference again: relayctl net apply")
    now = kernel_state.read_kernel(name for name, _ in found.now.settings)
    return ApplyJournal(files, found.directories, now, found.unit)


def _up(found: ApplyPreview, report: Report, lock: int) -> None:
    managed_files.make_directories(found.directories)
    for change in found.files:
        managed_files.put(change.path, change.after)
        report(f"{'removed' if change.after is None else 'wrote'} {change.path}")
    if found.has_unit:
        system_commands.demand("systemctl", "daemon-reload", timeout=_UNIT_SECONDS)
        system_commands.demand("systemctl", "enable", "--quiet", UNIT, timeout=_UNIT_SECONDS)
        ended = system_commands.run("systemctl", "restart", UNIT, timeout=_UNIT_SECONDS)
        if ended.status:
            why = system_commands.run("journalctl", "--no-pager", "-n", "10", "-o", "cat", "-u", UNIT).why
            raise RelayError(f"{UNIT} does not start: {why}", f"journalctl -u {UNIT}")
        report(f"started {UNIT}, now and at every boot")
    elif found.machine.up:
        _script(found.machine.up, report, lock)
        if not found.systemd:
            report(f"there is no systemd here: have your system run {found.machine.up} at every boot, before the relay")
    _take_back(found, report)


def _down(found: ApplyPreview, report: Report, lock: int) -> None:
    if found.unit.enabled or found.unit.active:
        system_commands.demand("systemctl", "disable", "--quiet", "--now", UNIT, timeout=_UNIT_SECONDS)
        report(f"stopped {UNIT}")
    script = found.record.down
    if script and script not in found.forced and managed_files.read_file(script) is not None:
        _script(script, report, lock)
    _take_back(found, report)
    for change in found.files:
        managed_files.put(change.path, None)
        report(f"removed {change.path}")
    if found.systemd:
        system_commands.demand("systemctl", "daemon-reload", timeout=_UNIT_SECONDS)
        system_commands.run("systemctl", "reset-failed", UNIT)  # else systemd remembers a unit that is gone


def _script(path: str, report: Report, lock: int) -> None:
    """Run `up` or `down`. The script outlives a killed run, so it holds the lock too."""
    ended = system_commands.run("sh", path, timeout=_UP_SECONDS, keep=(lock,))
    if ended.status:
        raise RelayError(f"{path} failed: {ended.why}", f"try it: sh -x {path}")
    report(f"ran {path}")


def _take_back(found: ApplyPreview, report: Report) -> None:
    """Undo what is not planned any more, which `up` does not do: routes, the table, settings."""
    now = kernel_state.read_kernel()
    wanted = kernel_state.planned_state(found.machine.kernel, found.wanted.rules, now.routes).state.routes
    back = tuple((name, value) for name, value in found.wanted.settings if name in found.restored_settings)
    changed = [(name, value) for name, value in back if kernel_state.read_setting(name) != value]
    routes = tuple(line for line in now.routes if line in wanted)
    for problem in kernel_state.restore(KernelState(now.rules if found.wanted.rules else "", routes, back)):
        raise RelayError(problem)
    for name, value in changed:
        report(f"set {name} back to {value}")
    saved = preview.saved_settings()
    kept = "".join(f"{name} {value}\n" for name, value in saved.items() if name not in found.restored_settings)
    if len(saved) != kept.count("\n"):
        managed_files.put(WAS, FileContent(kept.encode(), 0o644, os.geteuid(), os.getegid()) if kept else None)


def _verify(found: ApplyPreview) -> None:
    """Check that the kernel is as planned. Raises RelayError with the differences."""
    deadline = time.monotonic() + (_SETTLE_SECONDS if found.systemd else 0)
    while True:
        now = kernel_state.read_kernel(name for name, _ in found.wanted.settings)
        # a setting that is gone went with its interface
        settings = tuple(
            (name, value and at) for (name, at), (_, value) in zip(found.wanted.settings, now.settings, strict=True)
        )
        wanted = replace(
            kernel_state.planned_state(found.machine.kernel, found.wanted.rules, now.routes).state, settings=settings
        )
        unit = preview.read_unit() if found.systemd else found.unit
        reached = replace(found, files=(), now=now, wanted=wanted, unit=unit)
        if now == wanted and reached.unit_is_right:
            return
        if time.monotonic() >= deadline:
            shown = [line for line in preview.diff_lines(reached) if not line.startswith("@@")]
            raise RelayError(
                "the kernel is not as planned afterwards:\n" + "\n".join(f"  {line}" for line in shown[:30]),
                "does something else on this machine change nft rules or routes?",
            )
        time.sleep(0.1)


def _finish(found: ApplyPreview) -> None:
    """Complete the run: write the record, remove the journal."""
    following = found.next_record
    managed_files.remove_directories(path for path in found.record.directories if path not in following.directories)
    if following.files:
        managed_files.put(journal.RECORD, journal.record_file(following))
        journal.remove_journal()
    else:
        managed_files.put(WAS, None)
        managed_files.put(journal.RECORD, None)
        journal.remove_journal()
        managed_files.remove_directories([OWN])  # if a kill leaves it, `repair` does that


def _roll_back(before: ApplyJournal, report: Report) -> None:
    """Restore everything. Raises RelayError and keeps the journal when something cannot be restored."""
    problems: list[str] = []
    booted = preview.has_systemd()

    def attempt(*words: str) -> None:
        try:
            system_commands.demand(*words, timeout=_UNIT_SECONDS)
        except RelayError as error:
            problems.append(error.what)

    if booted and not (before.unit.enabled and before.unit.active) and preview.read_unit() != before.unit:
        for word, wanted in (("disable", before.unit.enabled), ("stop", before.unit.active)):
            if not wanted:
                attempt("systemctl", word, "--quiet", UNIT)
    try:
        present, earlier = preview.saved_settings(), before.files.get(WAS)
        known = kernel_state.parse_saved_settings(earlier.content) if earlier is not None else {}
        problems += kernel_state.write_settings((name, value) for name, value in present.items() if name not in known)
    except RelayError as error:
        problems.append(error.what)
    for path, earlier in before.files.items():
        managed_files.sweep(path)
        try:
            if managed_files.read_file(path) != earlier:
                if earlier is not None:
                    managed_files.make_directories(managed_files.missing_directories([path]))
                managed_files.put(path, earlier)
        except RelayError as error:
            problems.append(error.what)
    if booted:
        attempt("systemctl", "daemon-reload")
        if before.unit.enabled:
            attempt("systemctl", "enable", "--quiet", UNIT)
        if before.unit.active:
            attempt("systemctl", "restart", UNIT)
        else:
            system_commands.run("systemctl", "reset-failed", UNIT)
    for problem in kernel_state.restore(before.held):
        report(f"not put back: {problem}")  # a route whose interface is gone; the guard does not need it
    if problems:
        raise RelayError(
            "not everything could be put back: " + "; ".join(problems),
            "when that is cured, relayctl net apply (or --undo) goes on from here",
        )
    journal.remove_journal()
    managed_files.remove_directories([*before.directories, OWN])


def _suppressing(report: Report) -> Report:
    """Reports that ignore a lost terminal, which may be the reason for the rollback."""

    def report_quietly(line: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            report(line)

    return report_quietly


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Ignore all signals but SIGKILL during a short step that must be completed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)

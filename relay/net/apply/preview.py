"""Dry run of `net apply`: what would change on this machine, as a value that is shown before anything is done."""

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from relay.core.escape import escape
from relay.errors import NotPermitted, RelayError
from relay.net import system_commands
from relay.net.apply import journal, kernel_state, managed_files, managed_routes
from relay.net.apply.journal import AppliedPlan, Unit
from relay.net.apply.kernel_state import KernelState
from relay.net.apply.managed_files import FileChange, FileContent
from relay.net.plan.machine import OWN, TABLE, UNIT, WAS, Machine

_MOST_LINES = 15  # of a summary: it has to fit above the question
_BOOTED = Path("/run/systemd/system")  # sd_booted(3)


@dataclass(frozen=True, slots=True)
class ApplyPreview:
    """Present and planned state. `machine` without files: an undo."""

    machine: Machine
    record: AppliedPlan  # of what was applied before
    now: KernelState
    wanted: KernelState
    files: tuple[FileChange, ...] = ()
    waiting: tuple[str, ...] = ()  # what comes when its interface does
    restored_settings: tuple[str, ...] = ()  # settings that are not wanted any more, and become what they were
    directories: tuple[str, ...] = ()  # that have to be made
    systemd: bool = False
    unit: Unit = field(default_factory=Unit)  # now
    forced: tuple[str, ...] = ()  # files that a person has changed, whose changes would be lost

    @property
    def has_unit(self) -> bool:
        """Whether the machine's `up` is run by systemd."""
        return self.systemd and any(Path(file.path).name == UNIT for file in self.machine.files)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to change."""
        return not self.files and self.now == self.wanted and self.unit_is_right and self.next_record == self.record

    @property
    def unit_is_right(self) -> bool:
        """Whether the unit runs and starts at boot if the plan has one, and does neither if it has none."""
        return self.unit == Unit(self.has_unit, self.has_unit)

    @property
    def next_record(self) -> AppliedPlan:
        """The record after this is done."""
        if not self.machine.files:
            return AppliedPlan()
        made = dict.fromkeys([*self.record.directories, *self.directories])
        return AppliedPlan(
            {file.path: _wanted(file.text, file.mode).digest for file in self.machine.files},
            tuple(path for path in made if any(Path(file.path).is_relative_to(path) for file in self.machine.files)),
            self.machine.down,
            self.has_unit,
        )


def preview_changes(machine: Machine, *, force: bool = False) -> ApplyPreview:
    """The changes that make this machine as `machine` says.

    Raises RelayError where another program's routes or files are in the way, or, without `force`, a file that a person
    has changed; NotPermitted unless root asks. Hold `journal.locked`, and have repaired what was cut off.
    """
    known = journal.read_record()
    if not machine.files and not known.files:  # nothing is on record, so nothing is taken back
        now = kernel_state.read_kernel()
        return ApplyPreview(machine, known, now, now)
    files, changed = _files(machine, known, force)
    rules = next((file.text for file in machine.files if file.path == machine.kernel.rules), "")
    clashes = managed_routes.conflicts(machine.kernel)
    if clashes:
        shown = "\n".join(f"  {escape(line)}" for line, _ in clashes)
        raise RelayError(
            f"routes of other programs are where ours belong:\n{shown}",
            "if they are not needed: " + " && ".join(escape(cure) for _, cure in clashes),
        )
    before = saved_settings()
    planned = kernel_state.planned_state(
        machine.kernel, kernel_state.normalized_rules(rules), managed_routes.read_routes()
    )
    settings = dict(planned.state.settings)
    now = kernel_state.read_kernel({*settings, *before})
    restored_settings = tuple(name for name, value in now.settings if name not in settings and value)
    settings = {name: settings.get(name) or (before[name] if value else "") for name, value in now.settings}
    booted = has_systemd()
    return ApplyPreview(
        machine,
        known,
        now,
        replace(planned.state, settings=tuple(sorted(settings.items()))),
        files,
        planned.waiting,
        restored_settings,
        managed_files.missing_directories(change.path for change in files if change.after is not None),
        booted,
        read_unit() if booted else Unit(),
        changed,
    )


def saved_settings() -> dict[str, str]:
    """Values of settings before `up` changed them. Raises RelayError for a file WAS that is not ours."""
    found = managed_files.read_file(WAS)
    return {} if found is None else kernel_state.parse_saved_settings(found.content)


def diff_lines(found: ApplyPreview) -> list[str]:
    """All changes as a unified diff: files, kernel state, systemd."""
    lines = []
    for change in found.files:
        if change.after is None and change.before is not None and change.path not in found.forced:
            lines += [
                f"--- {change.path}",
                "+++ /dev/null",
                f"-({len(change.before.content.splitlines())} lines of ours)",
            ]
        else:
            lines += managed_files.difference(change)
    now, wanted = found.now, found.wanted
    lines += managed_files.unified(f"kernel: nft table inet {TABLE}", now.rules or None, wanted.rules or None)
    lines += _listed("kernel: routes", now.routes, wanted.routes)
    for (name, value), (_, other) in zip(now.settings, wanted.settings, strict=False):
        lines += managed_files.unified(f"kernel: /proc/sys/{name}", value, other)
    if not found.unit_is_right:
        unit = Unit(found.has_unit, found.has_unit)
        lines += managed_files.unified(f"systemd: {UNIT}", _words(found.unit), _words(unit))
    return lines


def summary(found: ApplyPreview) -> list[str]:
    """The same in a few words: the last lines before the confirmation prompt."""
    written = sum(change.after is not None for change in found.files)
    now, wanted = found.now, found.wanted
    lines = [_count(written, "written"), _count(len(found.files) - written, "removed")]
    lines = [line for line in lines if line]
    lost = sum(change.path in found.forced for change in found.files)
    lines += [f"{lost} of them changed since relayctl wrote them; these changes are lost"] if lost else []
    if now.rules != wanted.rules:
        what = "made" if not now.rules else "replaced" if wanted.rules else "removed"
        lines.append(f"nft table {TABLE} {what}")
    lines += [f"route set: {line.words}" for line in wanted.routes if line not in now.routes]
    lines += [f"route removed: {line.words}" for line in now.routes if line not in wanted.routes]
    pairs = zip(now.settings, wanted.settings, strict=False)
    lines += [f"{name}: {value} becomes {other}" for (name, value), (_, other) in pairs if value != other]
    if not found.unit_is_right:
        words = "runs, now and at every boot" if found.has_unit else "stopped, also at boot"
        lines.append(f"{UNIT} {words}")
    lines = [escape(line) for line in lines]  # an interface's name may hold anything
    return lines if len(lines) <= _MOST_LINES else [*lines[:_MOST_LINES], f"and {len(lines) - _MOST_LINES} more"]


def _count(files: int, what: str) -> str:
    return f"{files} file{'' if files == 1 else 's'} {what}" if files else ""


def nothing_to_undo(found: ApplyPreview) -> str:
    """The message of `--undo` when there is nothing to undo."""
    script = Path(OWN) / "down"
    if script.exists():
        return f"nothing was applied here; what the printed script made, its own way back takes: sh {script}"
    return "nothing to do: nothing was applied here"


def has_systemd() -> bool:
    """Whether this machine was booted with systemd."""
    return _BOOTED.is_dir()


def read_unit() -> Unit:
    """State of our unit now."""
    enabled = system_commands.run("systemctl", "is-enabled", UNIT).output.strip()
    active = system_commands.run("systemctl", "is-active", UNIT).output.strip()
    return Unit(enabled == "enabled", active in {"active", "activating", "reloading"})


def _files(machine: Machine, known: AppliedPlan, force: bool) -> tuple[tuple[FileChange, ...], tuple[str, ...]]:
    """(changes, paths of files that were changed since we wrote them)."""
    wanted: dict[str, FileContent | None] = {file.path: _wanted(file.text, file.mode) for file in machine.files}
    for path in known.files:
        wanted.setdefault(path, None)
    changes: list[FileChange] = []
    foreign: list[str] = []
    changed: list[str] = []
    for path, after in wanted.items():
        before = managed_files.read_file(path)
        if before == after:
            continue
        if before is not None and path not in known.files:
            foreign.append(path)
        elif before is not None and before.digest != known.files[path]:
            changed.append(path)
        changes.append(FileChange(path, before, after))
    if foreign:
        raise RelayError(
            f"not written by relayctl net apply: {', '.join(foreign)}",
            f"look at it, then move it away: {' && '.join(f'mv {path} {path}.aside' for path in foreign)}",
        )
    if changed and not force:
        raise RelayError(
            f"changed since relayctl wrote it: {', '.join(changed)}",
            "see what would be lost: relayctl net apply --dry-run --force; then the same without --dry-run",
        )
    return tuple(changes), tuple(changed)


def _wanted(text: str, mode: int) -> FileContent:
    return FileContent(text.encode(), mode)


def _words(unit: Unit) -> str:
    return f"{'enabled' if unit.enabled else 'disabled'}\n{'active' if unit.active else 'inactive'}"


def _listed(name: str, before: Iterable[object], after: Iterable[object]) -> list[str]:
    texts = ["".join(f"{line}\n" for line in lines) or None for lines in (before, after)]
    return managed_files.unified(name, *texts)


def require_root() -> None:
    """Whether this process may change the system at all. Raises NotPermitted off Linux and for everybody but root."""
    if sys.platform != "linux":
        raise NotPermitted(
            f"the relay host's part is done on Linux, and this is {sys.platform}",
            "print it as a script instead: relayctl net plan --machine relay",
        )
    if os.geteuid() != 0:
        raise NotPermitted(
            "only root may set up routes and nft rules; nothing was changed",
            "sudo relayctl net apply, or only look: relayctl net plan --machine relay",
        )
    for name in ("ip", "nft", "unshare"):
        system_commands.find(name)

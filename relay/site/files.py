"""Bounded reads of a site's files. Nothing is parsed here."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from relay.core.escape import escape
from relay.core.policy.target import name_fault
from relay.errors import Fault
from relay.site import locate

MOST_FILES = 1000  # of policies/*.yaml
MOST_BYTES = 16 << 20  # of all of them; 10,000 rules are about 1 MB


@dataclass(frozen=True, slots=True)
class Files:
    """The contents by name relative to the site, the persons with a key file, and the faults of reading."""

    contents: dict[str, bytes]
    persons: frozenset[str]
    faults: tuple[Fault, ...]


def read(site: Path) -> Files:
    """Read relay.yaml, policies/*.yaml and the names of keys/*.pub. A missing file is no fault: it allows nothing."""
    contents: dict[str, bytes] = {}
    faults: list[Fault] = []
    names = [locate.SETTINGS]
    for entry in _listed(site / locate.POLICIES, locate.POLICIES, faults):
        if entry.startswith("."):  # an editor's temporary file
            continue
        if not entry.isprintable():
            faults.append(Fault(locate.POLICIES, 0, f"the name {escape(entry)} cannot be shown", "rename that file"))
        elif entry.endswith(".yaml"):
            names.append(f"{locate.POLICIES}/{entry}")
        elif entry.endswith((".yml", ".YAML", ".YML")):
            # ignored silently, a deny rule in it would have no effect
            shown = f"{locate.POLICIES}/{escape(entry)}"
            faults.append(Fault(shown, 0, "not read: its name does not end in .yaml", "rename it to *.yaml"))
    if len(names) > MOST_FILES:
        faults.append(Fault(locate.POLICIES, 0, f"more than {MOST_FILES} files", "merge some of them"))
        names = names[:MOST_FILES]
    total = 0
    for name in names:
        raw = _bytes(site / name, name, faults)
        if raw is None:
            continue
        total += len(raw)
        if total > MOST_BYTES:
            faults.append(
                Fault(name, 0, f"the policy is larger than {MOST_BYTES} bytes in all", "use groups and zones")
            )
            break
        contents[name] = raw
    keys = _listed(site / locate.KEYS, locate.KEYS, faults)
    persons = frozenset(name[:-4] for name in keys if name.endswith(".pub") and not name_fault(name[:-4]))
    return Files(contents, persons, tuple(faults))


def read_one(site: Path, name: str) -> tuple[bytes | None, tuple[Fault, ...]]:
    """The bytes of another file of the site, None if it does not exist, and the faults of reading."""
    faults: list[Fault] = []
    return _bytes(site / name, name, faults), tuple(faults)


def _listed(directory: Path, shown: str, faults: list[Fault]) -> list[str]:
    try:
        return sorted(entry.name for entry in directory.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        faults.append(
            Fault(shown, 0, f"cannot be listed: {error.strerror}", "it must be a directory that the relay may read")
        )
        return []


def _bytes(path: Path, shown: str, faults: list[Fault]) -> bytes | None:
    shown = escape(shown)
    try:
        # O_NONBLOCK: opening a FIFO must not block
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        if path.is_symlink():
            faults.append(Fault(shown, 0, "a dangling link", "remove it or create its target"))
        return None
    except OSError as error:
        faults.append(Fault(shown, 0, f"cannot be read: {error.strerror}", "give the relay's group the right to read"))
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            faults.append(Fault(shown, 0, "not a file", "remove it"))
            return None
        reason = locate.writable_by_others(path)
        if reason:
            faults.append(Fault(shown, 0, reason, f"chmod go-w {path}"))
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(locate.MOST_BYTES + 1)  # one byte more, so that the parser sees that it is too large
    except OSError as error:
        faults.append(Fault(shown, 0, f"cannot be read: {error.strerror}", "check the disk"))
        return None
    finally:
        os.close(descriptor)

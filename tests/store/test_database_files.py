"""Files of the audit database: the writer's lock, the first mode, and the texts of errors."""

import errno
import os
from pathlib import Path

import pytest

from relay.errors import StoreUnavailable
from relay.store import database_files


def test_the_lock_has_one_holder(tmp_path: Path) -> None:
    """A second writer is refused with the process id of the first, until that releases the lock."""
    path = tmp_path / "audit.db"
    lock = database_files.take_lock(path)
    with pytest.raises(StoreUnavailable, match=f"another process writes .*: process {os.getpid()}"):
        database_files.take_lock(path)
    os.close(lock)
    os.close(database_files.take_lock(path))


def test_the_lock_follows_no_symbolic_link(tmp_path: Path) -> None:
    """A link in the place of the lock is refused, and its target stays as it was."""
    target = tmp_path / "target"
    target.write_text("mine")
    (tmp_path / "audit.db.lock").symlink_to(target)
    with pytest.raises(StoreUnavailable):
        database_files.take_lock(tmp_path / "audit.db")
    assert target.read_text() == "mine"


def test_a_new_database_is_private(tmp_path: Path) -> None:
    """The file is created with mode 0600; an existing one is left alone."""
    path = tmp_path / "audit.db"
    database_files.create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("rows")
    database_files.create(path)
    assert path.read_text() == "rows"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "cannot grow: the disk is full"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), "has no directory"),
        (PermissionError(errno.EACCES, "Permission denied"), "cannot be used: .*Permission denied"),
    ],
    ids=["full", "directory", "permission"],
)
def test_errors_have_a_cause_and_a_cure(tmp_path: Path, error: OSError, text: str) -> None:
    """The text of an error names the database, the cause, and the next step."""
    problem = database_files.unavailable(tmp_path / "audit.db", error)
    with pytest.raises(StoreUnavailable, match=text):
        raise problem
    assert problem.hint

"""Audit rows of commands, written directly if no relay runs."""

from pathlib import Path

from relay.cli import audit_event
from relay.site.locate import Site
from relay.store.reader import AuditReader
from relay.store.writer import FILE


def test_without_a_relay_the_command_writes_its_row_itself(tmp_path: Path) -> None:
    """The row has the administrator's user id, and the state directory is made."""
    site = Site(tmp_path, tmp_path / "state")
    assert audit_event.record(site, "backup.made", {"file": "/root/a.tar.gz"}, why="weekly") == ""
    with AuditReader(site.state / FILE) as reader:
        (row,) = (row for row in reader.after(0) if row.event.name == "backup.made")
    assert (row.event.fields["file"], row.event.fields["why"]) == ("/root/a.tar.gz", "weekly")
    assert isinstance(row.event.fields["by_uid"], int)


def test_a_row_that_cannot_be_written_is_a_problem_and_not_an_exception(tmp_path: Path) -> None:
    """The change it records is already made, so the command must go on."""
    (tmp_path / "state").write_text("")
    problem = audit_event.record(Site(tmp_path, tmp_path / "state"), "backup.made", {"file": "a"})
    assert "File exists" in problem


def test_the_rows_of_one_command_have_different_ids() -> None:
    """Two rows within a clock tick stay two rows."""
    assert len({audit_event.event("backup.made", {}).id for _ in range(100)}) == 100

"""The resume file of `audit tail --resume`: what it holds, which log it belongs to, and that no row is left out."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.core.audit.hash_chain import Row
from relay.errors import RelayError
from relay.review import resume_file, tail
from relay.review.resume_file import ResumePoint
from relay.store.reader import AuditReader
from relay.store.writer import AuditWriter
from tests.audit_rows import Relay


class Stopped(Exception):
    """Ends a loop that has no end of its own."""


def stop(_: float) -> None:
    """A wait in which the process is ended."""
    raise Stopped


def printed(reader: AuditReader, path: Path, *, fail_after: int | None = None) -> list[int]:
    """The numbers of the rows that one run prints until no more come, or until its output fails."""
    numbers: list[int] = []

    def output(rows: list[Row]) -> None:
        for row in rows:
            if fail_after is not None and len(numbers) == fail_after:
                raise Stopped
            numbers.append(row.seq)

    with pytest.raises(Stopped):
        tail.resume(reader, path, output, wait=stop, clock=lambda: 0.0, report=pytest.fail)
    return numbers


def test_a_second_run_goes_on_where_the_first_ended(
    relay: Relay, writer: AuditWriter, reader: AuditReader, tmp_path: Path
) -> None:
    """Without a file every row is printed; the next run prints only those that came later."""
    path = tmp_path / "resume"
    writer.append([relay.login(relay.connect()) for _ in range(3)])
    assert printed(reader, path) == [1, 2, 3]
    assert printed(reader, path) == []
    writer.append([relay.login(relay.connect())])
    assert printed(reader, path) == [4]
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("rows", [0, 1, 2, 5])
def test_rows_whose_output_failed_are_printed_again(
    relay: Relay, writer: AuditWriter, reader: AuditReader, tmp_path: Path, rows: int
) -> None:
    """A run that ended in the middle of its output lets the next one print those rows again, so none is left out."""
    path = tmp_path / "resume"
    writer.append([relay.login(relay.connect()) for _ in range(6)])
    first = printed(reader, path, fail_after=rows)
    assert sorted({*first, *printed(reader, path)}) == [1, 2, 3, 4, 5, 6]


def test_another_log_is_refused(relay: Relay, writer: AuditWriter, reader: AuditReader, tmp_path: Path) -> None:
    """A number whose row has another hash, and a number beyond the end, belong to another log: an error, no rows."""
    path = tmp_path / "resume"
    writer.append([relay.login(relay.connect()) for _ in range(3)])
    for seq in (2, 3, 4, 1 << 40):
        resume_file.save(path, ResumePoint(seq, "ab" * 32))
        with pytest.raises(RelayError, match=f"does not have row {seq} as in"):
            tail.resume(reader, path, pytest.fail, wait=stop, clock=lambda: 0.0, report=pytest.fail)


class Discarded:
    """A log whose first rows retention has discarded."""

    def __init__(self, reader: AuditReader, kept_from: int) -> None:
        self._reader = reader
        self._kept_from = kept_from

    def head(self) -> int:
        """The number of the last row."""
        return self._reader.head()

    def after(self, seq: int, limit: int = 500) -> list[Row]:
        """The rows behind row `seq` that are kept."""
        return self._reader.after(max(seq, self._kept_from - 1), limit)


@pytest.mark.parametrize("case", [(3, []), (4, []), (5, ["rows 4 to 4 were discarded before they were printed"])])
def test_discarded_rows_are_reported_once(
    relay: Relay, writer: AuditWriter, reader: AuditReader, tmp_path: Path, case: tuple[int, list[str]]
) -> None:
    """Rows that retention removed before they were printed are named; removing printed rows is no loss."""
    kept_from, reports = case
    path = tmp_path / "resume"
    writer.append([relay.login(relay.connect()) for _ in range(3)])
    printed(reader, path)
    writer.append([relay.login(relay.connect()) for _ in range(3)])
    found: list[str] = []
    numbers: list[int] = []
    with pytest.raises(Stopped):
        tail.resume(
            Discarded(reader, kept_from),  # type: ignore[arg-type] # the two methods that following a log needs
            path,
            lambda rows: numbers.extend(row.seq for row in rows),
            wait=stop,
            clock=lambda: 0.0,
            report=found.append,
        )
    assert (numbers, found) == (list(range(max(kept_from, 4), 7)), reports)


@pytest.mark.parametrize(
    "text", ["", "{}", "7", '{"seq": true, "hash": "00"}', '{"seq": 0, "hash": "' + "0" * 64 + '"}']
)
def test_a_damaged_file_is_an_error(tmp_path: Path, text: str) -> None:
    """A file that is no resume file is named, with what to do; it is never taken for the beginning of the log."""
    path = tmp_path / "resume"
    path.write_text(text)
    with pytest.raises(RelayError, match="is not a resume file") as error:
        resume_file.load(path)
    assert "remove that file" in error.value.hint


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=600))
def test_any_bytes_are_a_point_or_an_error(tmp_path: Path, data: bytes) -> None:
    """Whatever the file holds, the result is a point or RelayError."""
    path = tmp_path / "any"
    path.write_bytes(data)
    with contextlib.suppress(RelayError):
        assert resume_file.load(path).seq >= 1


def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """A directory in the file's place is an error with the path, for reading and for writing."""
    (tmp_path / "directory").mkdir()
    for call in (resume_file.load, lambda path: resume_file.save(path, ResumePoint(1, "00" * 32))):
        with pytest.raises(RelayError, match="directory"):
            call(tmp_path / "directory")

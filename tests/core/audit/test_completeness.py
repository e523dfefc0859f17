"""Completeness of the audit log: openings, promised checkpoints, the clock, missing ranges."""

import pytest

from relay.core.audit.checkpoint import Checkpoint
from relay.core.audit.completeness import FIRST_US, PATIENCE_US, CompletenessCheck

MINUTE = 60_000_000


def said(count: int, *, open: int = 0, detail: str = "") -> Checkpoint:
    """A checkpoint that promises the next one within a minute."""
    return Checkpoint(0, "", "", count=count, open=open, within=60, detail=detail)


def serving() -> CompletenessCheck:
    """A check after a start in row 1 and a checkpoint in row 2, a minute later."""
    check = CompletenessCheck()
    check.announced()
    check.started(1, MINUTE)
    check.checkpoint(2, said(1), 2 * MINUTE)
    return check


def faults(check: CompletenessCheck) -> list[str]:
    """The faults found so far."""
    return [finding.what for finding in check.answer.faults]


def test_an_undisturbed_log_is_complete() -> None:
    """A checkpoint in time, with the right counts, is neither a fault nor a note."""
    check = serving()
    check.checkpoint(5, said(2), 3 * MINUTE)
    check.end(5, 3 * MINUTE)
    assert (faults(check), check.answer.notes) == ([], [])


@pytest.mark.parametrize("late", [0, 1])
def test_a_checkpoint_may_be_late_by_the_patience_and_no_more(late: int) -> None:
    """One microsecond beyond promise and patience is a fault."""
    check = serving()
    check.checkpoint(3, said(0), 3 * MINUTE + PATIENCE_US + late)
    assert len(faults(check)) == late


def test_a_late_checkpoint_that_explains_itself_is_a_note() -> None:
    """With a reason in the checkpoint the delay is reported, but not as a fault."""
    check = serving()
    check.checkpoint(3, said(0, detail="the disk was full"), 60 * MINUTE)
    assert faults(check) == []
    assert "the disk was full" in check.answer.notes[0].what


def test_nothing_is_promised_while_the_relay_is_stopped() -> None:
    """After a stop any time may pass before the next start."""
    check = serving()
    check.stopped(3, 2 * MINUTE + 1)
    check.started(4, 999 * MINUTE)
    assert (faults(check), check.answer.notes) == ([], [])


def test_a_start_without_a_stop_is_a_note() -> None:
    """A crash or a power failure is reported, but is no fault."""
    check = serving()
    check.started(3, 999 * MINUTE)
    assert faults(check) == []
    assert "crash" in check.answer.notes[0].what


def test_a_checkpoint_counts_the_rows_before_it() -> None:
    """One row less than claimed is a fault."""
    check = serving()
    check.checkpoint(5, said(3), 3 * MINUTE)
    assert faults(check) == ["speaks for 3 rows, and there are 2"]


def test_a_checkpoint_counts_the_open_forwards() -> None:
    """A missing opening row is noticed at the next checkpoint."""
    check = serving()
    check.open.add("f1")
    check.checkpoint(4, said(1, open=2), 3 * MINUTE)
    assert faults(check) == ["counts 2 open forwards, and there are 1"]


def test_a_closing_row_needs_an_opening_row() -> None:
    """A forward that was never opened cannot be closed."""
    check = serving()
    check.closed(3, "f1")
    assert faults(check) == ["closes the forward f1, and no row opened it"]


def test_a_clock_that_is_set_back_is_a_fault_beyond_a_second() -> None:
    """A correction below a second is not reported."""
    check = serving()
    check.checkpoint(3, said(0), 2 * MINUTE - 900_000)
    assert faults(check) == []
    check.checkpoint(4, said(0), 1 * MINUTE)
    assert "the clock was set back" in faults(check)[0]


def test_missing_rows_are_a_fault_unless_a_row_says_that_they_were_discarded() -> None:
    """A discarded archive explains a gap that begins after a checkpoint and ends with one."""
    check = serving()
    check.missing(3, 9)
    check.checkpoint(11, said(1), 4 * MINUTE)
    check.discarded({"first": 3, "last": 9})
    check.end(11, None)
    assert faults(check) == []
    check = serving()
    check.missing(3, 9)
    check.end(10, None)
    assert faults(check) == ["rows 3 to 9 are missing"]


def test_the_first_checkpoint_follows_within_an_hour_of_the_first_key() -> None:
    """An announced key promises a checkpoint, although none has set an interval yet."""
    check = CompletenessCheck()
    check.announced()
    check.started(1, MINUTE)
    check.end(1, MINUTE + FIRST_US + PATIENCE_US)
    assert faults(check) == []

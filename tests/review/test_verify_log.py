"""Verification of archives and database in one pass."""

from relay.core.audit.log_verifier import LogVerifier
from relay.errors import RowDamaged, StoreUnavailable
from relay.review.verify_log import MOST_DAMAGED, ArchivePart, beside_archives, read
from relay.store import signing_key
from tests import sealed_log


def behind(lines):
    """Reads the rows behind a row, as a database or an archive does."""
    return lambda seq: iter([line for line in lines if line[0] > seq])


def verified(log, parts, kept):
    """The result of reading these archives and the rows kept in the database."""
    verifier = LogVerifier(signing_key.proves, keys=[log.first], live=log.live)
    read(verifier, lambda: parts, kept)
    return verifier.end()


def test_archives_and_database_are_one_chain():
    """Rows that are in both places are read once, from the archive."""
    log = sealed_log.day()
    border = log.lines[5]
    part = ArchivePart(1, border[0], border[5], behind(log.lines[: border[0]]))
    result = verified(log, [part], behind(log.lines[2:]))
    assert result.good
    assert (result.first, result.last) == (1, len(log.lines))


def test_an_unreadable_archive_is_a_fault_and_the_rows_behind_it_are_still_proven():
    """Its first row is named; the rows of the database follow the hash in the manifest."""
    log = sealed_log.day()
    border = log.lines[5]

    def unreadable(seq):
        raise StoreUnavailable("the archive is damaged", "relayctl audit archive")

    result = verified(log, [ArchivePart(1, border[0], border[5], unreadable)], behind(log.lines[border[0] :]))
    assert [(fault.seq, fault.what) for fault in result.integrity.faults] == [(1, "the archive is damaged")]
    assert result.last == len(log.lines)


def test_reading_stops_after_many_unreadable_rows():
    """A database in which every row is damaged ends the verification with a fault instead of running for ever."""
    log = sealed_log.day()
    asked = []

    def damaged(seq):
        asked.append(seq)
        raise RowDamaged(seq + 1, "it cannot be read")

    result = verified(log, [], damaged)
    assert len(asked) == MOST_DAMAGED
    assert not result.good


def test_a_row_that_differs_from_its_archived_copy_is_named():
    """Until the database has deleted an archived row, both copies must be the same."""
    log = sealed_log.day()
    ends = {4: log.lines[3][5]}
    assert beside_archives(behind(log.lines), lambda: (0, "0" * 64), ends) == ""
    changed = [*log.lines[:2], (*log.lines[2][:6], log.lines[2][6].replace("alice", "carol")), *log.lines[3:]]
    assert changed != log.lines
    fault = beside_archives(behind(changed), lambda: (0, "0" * 64), ends)
    assert fault == "row 3 of the database is not the one that was archived"

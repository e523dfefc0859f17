"""Deletion of archived rows: only those that were archived, and in slices."""

import pytest

from relay.core.audit.hash_chain import GENESIS
from relay.errors import StoreUnavailable
from relay.store.reader import AuditReader
from tests.audit_rows import Relay
from tests.store import archived


def test_rows_are_deleted_in_slices(writer, path):
    """Each call deletes at most that many of the oldest rows, and the hash of the last one is kept."""
    writer.append(archived.day(Relay()))
    with AuditReader(path) as reader:
        rows = list(reader.walk())
        assert [writer.forget(10, rows[9].hash, 4) for _ in range(4)] == [True, True, True, False]
        assert reader.base() == (10, rows[9].hash)
        assert list(reader.walk()) == rows[10:]


def test_rows_that_were_not_archived_stay(writer, path):
    """Nothing is deleted when the last archived row has another hash than the archive says."""
    writer.append(archived.day(Relay()))
    with pytest.raises(StoreUnavailable, match="row 10 of the audit database is not the one that was archived"):
        writer.forget(10, GENESIS, 4)
    assert writer.room().base == 0


def test_the_opening_row_of_an_open_forward_stays(writer, path):
    """Rows up to the opening of an open forward cannot be deleted."""
    writer.append(Relay().day())
    with AuditReader(path) as reader:
        rows = list(reader.walk())
    with pytest.raises(StoreUnavailable, match="a forward is open that began before row 10"):
        writer.forget(10, rows[9].hash, 4)

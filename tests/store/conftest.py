"""A database with a writer, for the tests of the store."""

import pytest

from relay.store.writer import FILE, AuditWriter


@pytest.fixture
def path(tmp_path):
    """Where the database lies."""
    return tmp_path / FILE


@pytest.fixture
def writer(path):
    """The writer of an empty database."""
    writer = AuditWriter(path, "relay")
    yield writer
    writer.close()

"""A database with a writer, for the tests of the store."""

import pytest

from relay.store.database import FILE, Writer


@pytest.fixture
def path(tmp_path):
    """Where the database lies."""
    return tmp_path / FILE


@pytest.fixture
def writer(path):
    """The writer of an empty database."""
    writer = Writer(path, "relay")
    yield writer
    writer.close()

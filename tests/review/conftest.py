"""A log with an ordinary day in it, and a reader over it."""

import pytest

from relay.store.database import FILE, Reader, Writer
from tests.audit_rows import Relay


@pytest.fixture
def relay():
    """The maker of events."""
    return Relay()


@pytest.fixture
def writer(tmp_path):
    """The writer of the log."""
    writer = Writer(tmp_path / FILE, "relay")
    yield writer
    writer.close()


@pytest.fixture
def reader(tmp_path, writer):
    """A reader of the log."""
    with Reader(tmp_path / FILE) as reader:
        yield reader

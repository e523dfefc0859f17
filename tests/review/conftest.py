"""A log with an ordinary day in it, and a reader over it."""

import pytest

from relay.store.reader import AuditReader
from relay.store.writer import FILE, AuditWriter
from tests.audit_rows import Relay


@pytest.fixture
def relay():
    """The maker of events."""
    return Relay()


@pytest.fixture
def writer(tmp_path):
    """The writer of the log."""
    writer = AuditWriter(tmp_path / FILE, "relay")
    yield writer
    writer.close()


@pytest.fixture
def reader(tmp_path, writer):
    """A reader of the log."""
    with AuditReader(tmp_path / FILE) as reader:
        yield reader

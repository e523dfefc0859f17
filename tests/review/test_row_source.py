"""The protocol of a place that holds rows."""

import inspect

import pytest

from relay.review.full_log import FullLog
from relay.review.row_source import RowSource
from relay.store.reader import AuditReader

METHODS = sorted(name for name in vars(RowSource) if not name.startswith("_"))


@pytest.mark.parametrize("source", [AuditReader, FullLog])
@pytest.mark.parametrize("method", METHODS)
def test_database_and_full_log_have_the_same_methods(source, method):
    """Each takes the parameters of the protocol, by the same names and in the same order."""
    wanted = list(inspect.signature(getattr(RowSource, method)).parameters)
    assert list(inspect.signature(getattr(source, method)).parameters)[: len(wanted)] == wanted

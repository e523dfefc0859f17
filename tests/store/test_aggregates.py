"""Totals by SQL equal the totals of the matching rows, added one by one."""

from collections import defaultdict

import pytest

from relay.core.audit.audit_query import AuditQuery
from relay.core.audit.usage_totals import BY, UsageTotal, group, portion
from relay.store.reader import AuditReader
from tests.audit_rows import Relay


def summed(parts, by):
    """The total of each group."""
    totals = defaultdict(UsageTotal)
    for part in parts:
        key = group(by, part, lambda time: str(time // 86_400_000_000))
        if key is not None:
            totals[key] += part.total
    return dict(totals)


@pytest.mark.parametrize("by", BY)
@pytest.mark.parametrize(
    "query",
    [AuditQuery(), AuditQuery(person="alice"), AuditQuery(name="forward.closed"), AuditQuery(port=443)],
    ids=["all", "person", "name", "port"],
)
def test_totals_equal_those_of_the_rows(writer, path, by, query):
    """For each grouping and filter, SQL and the rows themselves give the same totals."""
    relay = Relay()
    writer.append([*relay.day(), *relay.day()])
    with AuditReader(path) as reader:
        rows = [row for row in reader.walk() if query.matches(row)]
        totals = summed(reader.portions(query, by, lambda share: None), by)
    assert rows
    assert totals == summed((portion(row.event) for row in rows), by)


def test_the_last_progress_is_the_whole(writer, path):
    """The share that is reported last is at least 1: everything was read."""
    writer.append(Relay().day())
    shares = []
    with AuditReader(path) as reader:
        list(reader.portions(AuditQuery(), "person", shares.append))
    assert shares[-1] >= 1

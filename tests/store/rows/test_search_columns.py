"""Search columns of written rows agree with their hashed texts (tests/cli/audit/test_verify.py tampers with them)."""

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from relay.core.audit.event import Event
from relay.store.reader import AuditReader
from relay.store.writer import FILE, AuditWriter
from tests.audit_rows import NOON, Relay


@settings(max_examples=40)
@given(st.lists(st.lists(st.integers(-3, 3), min_size=1, max_size=6), max_size=8))
def test_whatever_the_clock_does_nothing_is_mislaid(groups: list[list[int]]) -> None:
    """Rows of hours in any order, in any groups: what is kept for searches fits them."""
    with TemporaryDirectory() as directory:
        path, relay = Path(directory) / FILE, Relay()
        writer = AuditWriter(path, "relay")
        for group in groups:
            times = [NOON + hour * 3_600_000_000 for hour in group]
            writer.append([Event(relay.id(), time, "zone.up", {"zone": "office"}) for time in times])
        writer.append(relay.day())
        writer.close()
        with AuditReader(path) as reader:
            assert reader.mislaid() == []

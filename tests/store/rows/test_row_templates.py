"""Rows that are filled into a template equal the rows that are built without one."""

import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.core import ids
from relay.core.audit.event import Event
from relay.core.audit.hash_chain import canonical
from relay.store.reader import AuditReader
from relay.store.rows import row_encoding
from relay.store.rows.row_templates import DictionaryEntries, RowTemplates
from relay.store.writer import FILE, AuditWriter
from tests.core.chain_check import first_break

NODE = 'a "node" of 100 %d'
ID = st.integers(0, 31**10).map(lambda number: ids.unpacked(number.to_bytes(7, "big")))
PLAIN = st.sampled_from(["", "alice", "100 % sure", "%s %d %%", '"\\', "ünïcode", "\ud800", "x" * 1100])
OWN = {key: st.one_of(ID, ID, st.sampled_from(["f1", "%s", ""])) for key in row_encoding.IDS} | {
    key: st.one_of(st.integers(0, 9), st.sampled_from([-1, 1 << 62, 1 << 63, True, None, "7"]))
    for key in row_encoding.NUMBERS
}
SAME = {
    "person": PLAIN,
    "client": st.sampled_from(["192.0.2.1", "2001:db8::1"]),
    "expires": st.sampled_from([None, 1, True]),
    "asked": PLAIN,
    "port": st.sampled_from([22, 1, True]),
    "reason": PLAIN,
    "worker": st.sampled_from(["w1", "w2"]),
    "detail": st.sampled_from(["", "why %d"]),
    "forwards": st.sampled_from([0, 1, 50]),
}
EVENTS = st.builds(
    lambda id, name, fields, own: Event(id, 1_790_000_000_000_000, name, {**fields, **own}),
    ID,
    st.sampled_from(["login.succeeded", "connection.closed", "100 % new"]),
    st.fixed_dictionaries({}, optional=SAME),
    st.fixed_dictionaries({}, optional=OWN),
)


def stored(path: Path) -> list[str]:
    """All that the database says, but for its salt."""
    with sqlite3.connect(path) as database:
        found = [line for line in database.iterdump() if "'salt'" not in line]
    database.close()
    return found


@settings(deadline=None, max_examples=30)
@given(
    st.lists(EVENTS, min_size=1, max_size=6, unique_by=lambda event: event.id),
    st.lists(st.integers(0, 5), max_size=20),
    st.randoms(),
)
def test_what_is_filled_in_is_what_would_have_been_put_together(events: list[Event], again: list[int], chance) -> None:  # type: ignore[no-untyped-def]
    """Rows that come again with other ids and numbers: the same database as without any pattern, and a whole chain."""
    rows = list(events)
    for number in again:
        like = events[number % len(events)]
        own = {key: value for key, value in chance.choice(events).fields.items() if key in OWN}
        fields = {key: own.get(key, value) for key, value in like.fields.items()}
        id = ids.unpacked(chance.getrandbits(50).to_bytes(7, "big"))
        if any(row.id == id for row in rows):
            continue
        rows.append(Event(id, like.time + chance.randrange(9), like.name, fields))
    with tempfile.TemporaryDirectory() as name:
        one, other = Path(name) / "one" / FILE, Path(name) / "other" / FILE
        for path in (one, other):
            path.parent.mkdir()
            writer = AuditWriter(path, NODE)
            writer._open().execute("PRAGMA synchronous = OFF")  # a transaction for each row, and nothing to be kept
            for row in rows:
                writer.append([row])
                if path is other:
                    writer._dictionaries.forget()
            writer.close()
        assert stored(one) == stored(other)
        with AuditReader(one) as reader:
            assert first_break(reader.after(0, 1000)) is None


def test_a_pattern_is_known_from_the_second_row_on() -> None:
    """Like rows are filled in, to the canonical text; another type, a strange id or number, or another field is not."""
    patterns, entries = RowTemplates(NODE), DictionaryEntries(1, 2, 3, 4, 5)
    first, second, third = (ids.unpacked(bytes([0, 0, 0, 0, 0, 0, number])) for number in (1, 2, 3))

    def row(id: str, **fields: str | int) -> Event:
        return Event(id, 7, "forward.opened", {"person": "50 %", "port": 1, "forward": id, "client_port": 9, **fields})

    assert patterns.find(row(first)) is None
    patterns.learn(row(first), entries, row_encoding.columns(row(first)))
    assert patterns.find(row(second)) is None
    patterns.learn(row(second), entries, row_encoding.columns(row(second)))
    found = patterns.find(row(third, client_port=10))
    assert found is not None
    assert found.entries == entries
    assert found.placed == row_encoding.columns(row(third, client_port=10))
    assert found.text % (8, 7) == canonical(NODE, 8, row(third, client_port=10))
    for strange in (
        {"port": True},
        {"port": 2},
        {"client_port": True},
        {"client_port": 1 << 63},
        {"forward": "f1"},
        {"x": 1},
    ):
        assert patterns.find(row(third, **strange)) is None, strange
    assert patterns.find(row("f1", forward=third)) is None
    patterns.clear()
    assert patterns.find(row(third)) is None


@pytest.mark.parametrize("field", [*row_encoding.IDS, *row_encoding.NUMBERS])
def test_a_row_with_a_number_that_has_no_column_is_no_pattern(tmp_path: Path, field: str) -> None:
    """What stands in the rest of such a row instead does not come to stand in that of rows that have the number."""
    found = []
    for name in ("one", "other"):
        writer = AuditWriter(tmp_path / name, NODE)
        value = ids.unpacked(bytes(7)) if field in row_encoding.IDS else 5
        for number, own in enumerate((None, None, value)):
            id = ids.unpacked(bytes([0, 0, 0, 0, 0, 1, number]))
            writer.append([Event(id, 7, "connection.closed", {"person": "alice", field: own})])
            if name == "other":
                writer._dictionaries.forget()
        writer.close()
        found.append(stored(tmp_path / name))
    assert found[0] == found[1]

"""Archives and database, read as one log."""

from pathlib import Path

import pytest

from relay.core.audit.audit_query import AuditQuery
from relay.core.audit.hash_chain import Row
from relay.core.audit.usage_totals import UsageTotal, group, portion
from relay.review.full_log import FullLog
from relay.review.search import search_log
from relay.review.timeline import build_timeline
from relay.store.archive.archive_reader import ArchiveReader
from relay.store.reader import AuditReader
from relay.store.writer import FILE, AuditWriter
from tests.audit_rows import NOON, Relay
from tests.store import archived

QUESTIONS = [
    AuditQuery(),
    AuditQuery(person="bob"),
    AuditQuery(verdict="denied"),
    AuditQuery(host="192.168.1.50"),
    AuditQuery(text="PuTTY"),
    AuditQuery(name="audit.archived"),
    AuditQuery(since=NOON + archived.HOUR),
    AuditQuery(until=NOON + archived.HOUR, person="alice"),
]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Row]]:
    """Two archives, of the second of which the rows are still in the database; and all rows, each once."""
    state, relay = tmp_path_factory.mktemp("state"), Relay()
    events = archived.fill(state, 3, relay)
    archived.archive(state, events[12].time)
    relay.now += 2 * archived.LATER
    events = archived.fill(state, 3, relay)
    archived.archive(state, events[24].time, settle=False)
    rows = archived.whole(state)
    with AuditReader(state / FILE) as reader:
        assert 0 < reader.base()[0] < ArchiveReader(state).last() < reader.head() == rows[-1].seq == len(rows)
    return state, rows


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("limit", [1, 5, 1000])
def test_searching_both_is_looking_at_every_row(log: tuple[Path, list[Row]], question: AuditQuery, limit: int) -> None:
    """Each row once, newest first, whatever is in which place, in pages too."""
    state, rows = log
    found: list[Row] = []
    with AuditReader(state / FILE) as reader:
        whole = FullLog(reader, ArchiveReader(state))
        while page := whole.search(question, found[-1].seq if found else None, limit):
            found += page
    assert found == [row for row in reversed(rows) if question.matches(row)]


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("by", ["person", "target", "day"])
def test_adding_up_both_is_adding_up_every_row(log: tuple[Path, list[Row]], question: AuditQuery, by: str) -> None:
    """No row counts twice, though it stands in both places."""
    state, rows = log
    sums: dict[tuple[str, ...], UsageTotal] = {}
    expected: dict[tuple[str, ...], UsageTotal] = {}
    with AuditReader(state / FILE) as reader:
        parts = list(FullLog(reader, ArchiveReader(state)).portions(question, by, lambda share: None))
    for into, portions in ((sums, parts), (expected, [portion(row.event) for row in rows if question.matches(row)])):
        for one in portions:
            names = group(by, one, str)
            if names is not None and by != "day":
                into[names] = into.get(names, UsageTotal()) + one.total
    assert sums == expected


@pytest.mark.parametrize("limit", [1, 7, 1000])
def test_walking_goes_from_archives_into_the_database(log: tuple[Path, list[Row]], limit: int) -> None:
    """The rows behind a row, in pages, from the first one of all on: each once, in order."""
    state, rows = log
    found: list[Row] = []
    with AuditReader(state / FILE) as reader:
        whole = FullLog(reader, ArchiveReader(state))
        while page := whole.after(found[-1].seq if found else 0, limit):
            found += page
    assert found == rows


def test_a_forward_and_a_story_are_told_whole(log: tuple[Path, list[Row]]) -> None:
    """Entries have both rows, and an id of an archived refusal is answered as one of today is."""
    state, rows = log
    with AuditReader(state / FILE) as reader:
        whole = FullLog(reader, ArchiveReader(state))
        entries = search_log(whole, AuditQuery(verdict="allowed"), 1000)
        assert [len(entry.rows) for entry in entries] == [2] * 12
        denied = next(row for row in rows if row.event.name == "forward.denied")
        told = build_timeline(whole, denied.event.id, lambda version: None)
        assert told is not None
        assert told.chosen == (denied.seq,)
        assert {row.event.fields["connection"] for row in told.rows} == {denied.event.fields["connection"]}
        assert told.rows[0].event.name == "login.succeeded"
        assert whole.by_id("0000000000z") is None


def test_a_forward_that_was_archived_while_it_ended_is_one_entry(tmp_path: Path) -> None:
    """Its opening in an archive, its end in the database: one line."""
    relay = Relay()
    events = archived.fill(tmp_path, 1, relay)
    opened = relay.opened(relay.connect())
    closed = relay.closed(opened)
    writer = AuditWriter(tmp_path / FILE, "relay")
    relay.now += archived.HOUR
    writer.append([opened, archived.sealed(relay), closed, archived.sealed(relay)])
    writer.close()
    (entry,) = archived.archive(tmp_path, closed.time + 2 * archived.HOUR)[-1:]
    assert entry.last >= len(events) + 2
    with AuditReader(tmp_path / FILE) as reader:
        (found,) = search_log(
            FullLog(reader, ArchiveReader(tmp_path)), AuditQuery(since=closed.time, verdict="allowed"), 10
        )
    assert [row.event.id for row in found.rows] == [opened.id, closed.id]


@pytest.mark.parametrize("kept", [False, True])
def test_the_end_of_a_forward_that_began_in_an_archive_is_found_by_its_connection(tmp_path: Path, kept: bool) -> None:
    """A closing row is in no index of connections: it is found by its opening, wherever that stands."""
    relay = Relay()
    connection = relay.connect()
    login, opened = relay.login(connection), relay.opened(connection)
    writer = AuditWriter(tmp_path / FILE, "relay")
    writer.append([login, opened, archived.sealed(relay)])
    relay.now += 2 * archived.HOUR
    closed = relay.closed(opened)
    others = [relay.opened(connection)] if kept else []
    others += [relay.closed(one) for one in others]
    writer.append([closed, *others, archived.sealed(relay)])
    writer.close()
    (entry,) = archived.archive(tmp_path, opened.time + archived.HOUR)
    assert entry.last == 3
    expected = [login.id, opened.id, closed.id, *(one.id for one in others)]
    with AuditReader(tmp_path / FILE) as reader:
        whole = FullLog(reader, ArchiveReader(tmp_path))
        assert [row.event.id for row in whole.by_connection(connection["connection"])] == expected
        found = whole.search(AuditQuery(text=connection["connection"]))
        assert [row.event.id for row in reversed(found)] == expected

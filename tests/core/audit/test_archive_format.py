"""Archives: what a line says, what a manifest may say, and which rows are to go."""

import json
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.core.audit import archive_format
from relay.core.audit.archive_format import ArchiveEntry, DatabaseUsage, RetentionSettings
from relay.core.audit.event import Event, check
from relay.core.audit.hash_chain import GENESIS, canonical, link
from relay.core.settings import Settings
from relay.errors import InputRejected

values = st.one_of(st.none(), st.booleans(), st.integers(-(10**17), 10**17), st.text(max_size=40))
events = st.builds(
    Event,
    st.text(max_size=12),
    st.integers(-(10**17), 10**17),
    st.one_of(st.sampled_from(["forward.opened", "audit.sealed"]), st.text(max_size=20)),
    st.dictionaries(st.one_of(st.sampled_from(["forward", "person"]), st.text(max_size=12)), values, max_size=6),
)
ENTRY = ArchiveEntry(
    "relay", 1, 20, GENESIS, "a" * 64, 5_000_000, 9_000_000, ("alice",), 900, 300, "b" * 64, "0k3v9x2m4qz", 10
)


@given(events, st.text(max_size=12))
@example(Event('"', 1, "forward.opened", {"forward": 'a"}', "detail": '},"id":"x","forward":"y'}), "relay")
@example(Event("a", 1, "x", {"detail": '{"person":"mallory"', "person": 'al"\\ice'}), "relay")
def test_a_row_comes_back_from_its_text(event: Event, node: str) -> None:
    """Whatever a row holds, its line gives hash and text, and the text the row; its facts are found in it unparsed."""
    row = link(node, 7, GENESIS, event)
    text = canonical(node, 7, event)
    assert archive_format.taken(archive_format.line(row.hash, text)) == (row.hash, text)
    assert archive_format.row(GENESIS, row.hash, text) == row
    seq, time, name, id, forward = archive_format.facts(text)
    assert (seq, time, name, id) == (7, event.time, event.name, event.id)
    told = event.fields.get("forward")
    if (
        event.name.startswith("forward.")
        and isinstance(told, str)
        and '"' not in told
        and json.dumps(told)[1:-1] == told
    ):
        assert forward == told
    person = event.fields.get("person")
    assert archive_format.person_of(text) == (person if isinstance(person, str) else None)
    assert json.loads(archive_format.line(row.hash, text))["row"]["seq"] == 7


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{}",
        '{"hash":"' + "a" * 63 + '","row":{}}',
        '{"hash":"' + "A" * 64 + '","row":{}}',
        '{"hash":"' + "a" * 64 + '","row":',
        '{"hash":"' + "a" * 64 + '","now":{}}',
    ],
)
def test_a_line_that_is_no_row_is_refused(line: str) -> None:
    """Nothing is guessed: a line has exactly the form that it is written in."""
    with pytest.raises(InputRejected, match="no row of an archive"):
        archive_format.taken(line)


@given(st.text(max_size=200))
@example("[]")
@example("[" * 100_000)
@example('{"fields":{},"id":"","name":"","node":"","schema":1,"seq":1}')
@example('{"fields":{"a":[]},"id":"","name":"","node":"","schema":1,"seq":1,"time":1}')
@example('{"fields":{},"id":1,"name":"","node":"","schema":1,"seq":1,"time":1}')
@example('{"fields":{},"id":"","name":"","node":"","schema":1,"seq":true,"time":1}')
@example('{"fields":[],"id":"","name":"","node":"","schema":1,"seq":1,"time":1}')
def test_what_is_no_row_is_refused(text: str) -> None:
    """Any text is a row or is refused as none."""
    with pytest.raises(InputRejected):
        archive_format.row("", "", text)
    if not text.startswith('{"fields"'):
        with pytest.raises(InputRejected):
            archive_format.facts(text)


def test_a_person_is_found_only_as_a_field() -> None:
    """A field name inside a text value is not taken for a field."""
    assert archive_format.person_of(canonical("n", 1, Event("i", 1, "x", {"detail": '"person":"mallory"'}))) is None


def test_an_entry_comes_back_from_its_line() -> None:
    """The manifest says of an archive what there is to know; a file that was given up stays in it."""
    for entry in (ENTRY, replace(ENTRY, persons=None), archive_format.dropped(ENTRY, "0k3v9x2m4qy", 11)):
        assert archive_format.entry_of(archive_format.entry_line(entry)) == entry
    assert (ENTRY.file, ENTRY.rows, ENTRY.kept) == ("relay-1-20.jsonl.gz", 20, True)
    assert not archive_format.dropped(ENTRY, "0k3v9x2m4qy", 11).kept
    assert json.loads(ENTRY.header())["hash"] == "a" * 64


@pytest.mark.parametrize(
    "change",
    [
        {"archive": 2},
        {"node": "../evil", "file": "../evil-1-20.jsonl.gz"},
        {"file": "other"},
        {"first": 0},
        {"last": 0},
        {"last": True},
        {"first": 21},
        {"last": 1 << 62},
        {"hash": "x"},
        {"prev": "A" * 64},
        {"sha256": ""},
        {"size": 0},
        {"bytes": -1},
        {"persons": "alice"},
        {"persons": [1]},
        {"until": None},
    ],
)
def test_an_entry_that_cannot_be_is_refused(change: dict) -> None:
    """A manifest names only files of ours, in the form that we give them."""
    with pytest.raises(InputRejected):
        archive_format.entry_of(json.dumps(json.loads(archive_format.entry_line(ENTRY)) | change))


@given(st.text(max_size=100))
def test_any_line_of_a_manifest_is_an_entry_or_refused(text: str) -> None:
    """No text does anything else."""
    with pytest.raises(InputRejected):
        archive_format.entry_of(text)


def test_rows_about_archives_are_events() -> None:
    """Both rows have the fields that the table of events gives them."""
    assert check(ENTRY.archived()) == ()
    assert check(archive_format.dropped(ENTRY, "0k3v9x2m4qy", 11).discarded({"by_uid": 0})) == ()


def test_a_node_becomes_a_name_of_a_file() -> None:
    """A node whose name is none of ours cannot choose where an archive lies."""
    assert archive_format.node_of("hk-1") == "hk-1"
    assert archive_format.node_of("../x") == "relay"


# base, head, used, aged, well aged, settled, open
NOW = DatabaseUsage(100, 1100, 0, 600, 500, 1000, 0)


@pytest.mark.parametrize(
    ("now", "most", "last"),
    [
        (NOW, 0, 600),
        (replace(NOW, well_aged=100), 0, 0),  # not a day's worth
        (replace(NOW, well_aged=101), 0, 600),
        (replace(NOW, open=300), 0, 299),
        (replace(NOW, settled=50), 0, 50),
        (replace(NOW, well_aged=0, used=1000), 1000, 0),  # as large as it may be
        (replace(NOW, well_aged=0, used=1001), 1000, 201),  # down to nine tenths
        (replace(NOW, used=1001), 1000, 600),  # age asks for more
        (replace(NOW, well_aged=0, used=10**6), 1000, 1000),  # but for the last hour's
        (replace(NOW, well_aged=0, used=10**6, settled=5000), 1000, 1100),
        (replace(NOW, well_aged=0, used=10**6, head=100), 1000, 0),  # no row left: it is something else
    ],
)
def test_which_rows_are_to_go(now: DatabaseUsage, most: int, last: int) -> None:
    """By age once a day, by size down to nine tenths; never an open forward's, never the last hour's."""
    assert archive_format.allowed(now, archive_format.wanted(RetentionSettings(1, most), now)) == last


def test_the_settings_say_how_long_rows_stay() -> None:
    """400 days and 2 GiB, unless relay.yaml says otherwise."""
    assert archive_format.retention(Settings()) == RetentionSettings(400 * 86_400_000_000, 2 << 30)

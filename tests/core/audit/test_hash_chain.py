"""The chain: what a row says exactly, and how a change is found."""

import subprocess
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.audit.event import Event
from relay.core.audit.hash_chain import GENESIS, canonical, compact, digest, link
from tests.audit_rows import NOON, Relay
from tests.core.chain_check import ChainBreak, first_break


def chained(count=5):
    """So many rows in a chain."""
    rows, prev, relay = [], GENESIS, Relay()
    for number in range(count):
        rows.append(link("relay", number + 1, prev, relay.event("server.started", version=f"{number}")))
        prev = rows[-1].hash
    return rows


def test_the_canonical_text_is_written_down():
    """Keys sorted, no spaces, characters as they are: this exact text, for ever."""
    event = Event("0k3v9x2m4qz", NOON, "site.applied", {"policy": "é", "keys": 2, "detail": None})
    assert canonical("relay", 7, event) == (
        '{"fields":{"detail":null,"keys":2,"policy":"é"},"id":"0k3v9x2m4qz","name":"site.applied","node":"relay",'
        '"schema":1,"seq":7,"time":1790856000000000}'
    )
    assert digest(GENESIS, "{}") == "5649d09ed68c17156095d175eef152856c5b1a81c117c409c1e00f096aa6838e"


def test_standard_tools_can_recompute_the_chain():
    """printf and sha256sum give the hash that stands in the row."""
    row = chained(2)[1]
    text = canonical(row.node, row.seq, row.event)
    shell = ["sh", "-c", 'printf "%s\\n%s" "$1" "$2" | sha256sum', "sh", row.prev, text]
    assert subprocess.run(shell, capture_output=True, text=True, check=True).stdout.split()[0] == row.hash


def test_a_whole_chain_holds():
    """What was written is what is read, from the beginning or from any row on."""
    rows = chained()
    assert first_break(rows) is None
    assert first_break([]) is None
    assert first_break(rows[3:], rows[2].hash, 3) is None


@pytest.mark.parametrize(
    ("change", "seq", "what"),
    [
        (lambda rows: [rows[0], *rows[2:]], 2, "missing"),
        (lambda rows: [rows[0], rows[2], rows[1], *rows[3:]], 2, "missing"),
        (lambda rows: rows[1:], 1, "missing"),
        (lambda rows: [rows[0], rows[0], *rows[1:]], 2, "missing"),
        (lambda rows: [replace(rows[0], node="other"), *rows[1:]], 1, "not what was written"),
        (lambda rows: [*rows[:2], replace(rows[2], schema=2), *rows[3:]], 3, "not what was written"),
        (lambda rows: [rows[0], link("relay", 2, GENESIS, rows[1].event), *rows[2:]], 2, "does not follow"),
        (lambda rows: [rows[0], link("relay", 2, rows[0].hash, rows[4].event), *rows[2:]], 3, "does not follow"),
    ],
)
def test_a_change_is_found_at_the_first_row_it_touches(change, seq, what):
    """Deleted, swapped, doubled, altered and re-chained rows."""
    broken = first_break(change(chained()))
    assert isinstance(broken, ChainBreak)
    assert broken.seq == seq
    assert what in broken.what


values = st.one_of(st.none(), st.booleans(), st.integers(), st.text(st.characters(exclude_categories=["Cs"])))
fields = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), values, max_size=5)


@given(fields, fields)
def test_two_events_have_one_text_only_when_they_are_equal(first, second):
    """The canonical text tells 1 from "1", True from 1, None from missing; the order of fields says nothing."""
    texts = [canonical("relay", 1, Event("x", NOON, "n.v", given_fields)) for given_fields in (first, second)]
    same = first == second and all(type(first[key]) is type(second[key]) for key in first)
    assert (texts[0] == texts[1]) == same
    assert texts[0] == canonical("relay", 1, Event("x", NOON, "n.v", dict(reversed(first.items()))))


def test_compact_text_has_one_form():
    """Equal fields give equal text whatever their order was, and a number that JSON does not have is refused."""
    assert compact({"b": 1, "a": "é"}) == compact({"a": "é", "b": 1}) == '{"a":"é","b":1}'
    with pytest.raises(ValueError, match="Out of range"):
        compact({"a": float("nan")})

"""relay.core.ids: short, sortable, typable."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core import ids
from relay.errors import InputRejected

NOW = 1_800_000_000_000_000  # UTC microseconds


def test_ids_sort_by_time_and_never_repeat() -> None:
    """Also many within a tick, and when the clock goes back."""
    maker = ids.Ids(3)
    made = [maker.make(now) for now in (NOW, NOW, NOW, NOW + 1_000_000, NOW - 1_000_000, 0)]
    assert made == sorted(set(made))
    assert {len(each) for each in made} == {ids.LENGTH}


def test_makers_do_not_collide() -> None:
    """Each process has a slot of its own."""
    assert len({ids.Ids(slot).make(NOW) for slot in range(ids.SLOTS)}) == ids.SLOTS


@given(st.integers(NOW, NOW + 10**15), st.integers(0, ids.SLOTS - 1))
def test_an_id_tells_when_it_was_made(now: int, slot: int) -> None:
    """To a thirty-second of a millisecond, which is part of the id."""
    made = ids.Ids(slot).make(now)
    assert now - 32 <= ids.made_at(made) <= now
    assert ids.parse(made) == made


def test_what_is_misread_is_read_right() -> None:
    """Capitals, and the letters that the alphabet leaves out."""
    assert ids.parse(" 0K3V9X2M4QZ ") == ids.parse("ok3v9x2m4qz") == "0k3v9x2m4qz"
    assert ids.parse("OIL00000000") == "01100000000"


@given(st.text(max_size=60))
def test_any_text_is_an_id_or_rejected(text: str) -> None:
    """Nothing else is raised."""
    try:
        assert len(ids.parse(text)) == ids.LENGTH
    except InputRejected as error:
        assert error.hint


@pytest.mark.parametrize("text", ["", "0k3v9x2m4q", "0k3v9x2m4qz0", "0k3v9x2m4qu", "0k3v9x2m4q é"])
def test_no_ids(text: str) -> None:
    """Too short, too long, a letter that no id has."""
    with pytest.raises(InputRejected, match="is not an id"):
        ids.parse(text)


@given(st.lists(st.integers(0, 2**55 - 1), min_size=2, max_size=4, unique=True), st.text(max_size=12))
def test_packed_ids_are_the_same_ids(numbers: list[int], other: str) -> None:
    """Seven bytes for each that sort as the ids do and come back as they were; any other text has none."""
    made = ["".join(ids.ALPHABET[(number >> shift) & 31] for shift in range(50, -1, -5)) for number in numbers]
    packed = [ids.packed(one) for one in made]
    assert all(one is not None and len(one) == 7 for one in packed)
    assert [ids.unpacked(one) for one in packed if one] == made
    assert [one for _, one in sorted(zip(packed, made, strict=True))] == sorted(made)
    assert (ids.packed(other) is None) == (len(other) != 11 or not set(other) <= set(ids.ALPHABET))


@pytest.mark.parametrize("text", ["", "0", "0k3v", "0k3v9x2m4qz"])
def test_a_beginning_holds_exactly_the_ids_that_begin_so(text: str) -> None:
    """The least and the greatest of them; no id begins with a text that has other letters or is too long."""
    span = ids.beginning(text)
    assert span is not None
    assert ids.unpacked(span[0]) == text.ljust(11, "0")
    assert ids.unpacked(span[1]) == text.ljust(11, "z")
    assert ids.beginning(text + "u") is None
    assert ids.beginning("0" * 12) is None

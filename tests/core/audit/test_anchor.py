"""Anchors: one row on one line, and what a slip of the pen looks like."""

import contextlib
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.audit.anchor import Anchor, anchor, parse
from relay.errors import InputRejected
from tests.audit_rows import NOON

HASH = "9f2c04c5b3a1d6e27788a9b0c1d2e3f405162738495a6b7c8d9eafb0c1d2e3f4"
ONE = anchor("relay", 1024, NOON + 999_999, HASH)
LINE = str(ONE)


def test_an_anchor_is_one_short_line_for_ever() -> None:
    """This exact text; its last digits are those that sha256sum gives for what stands before them."""
    assert LINE == "relay-audit relay 1024 2026-10-01T12:00:00Z 9f2c04c5b3a1d6e27788a9b0c1d2e3f405162738 ec10"
    said, _, check = LINE.rpartition(" ")
    found = subprocess.run(["sha256sum"], input=said, capture_output=True, text=True, check=True).stdout
    assert found.startswith(check)


def test_anchors_are_found_in_mail_files_and_system_logs() -> None:
    """Whatever stands around them, and however often."""
    text = f"Subject: anchor\n\n> {LINE}\nNov 26 12:00:00 fra1 relay: audit anchor: {LINE}\n"
    assert parse(text) == (ONE, ONE)


@given(
    st.text(max_size=8),
    st.integers(1, 10**17),
    st.integers(0, 4_000_000_000),
    st.text("0123456789abcdef", min_size=40, max_size=40),
)
def test_what_is_printed_is_read_again(node: str, seq: int, time: int, digits: str) -> None:
    """For every node, number, time and hash."""
    one = Anchor("n" + "".join(letter for letter in node if letter.isalnum()), seq, time * 1_000_000, digits)
    assert parse(str(one)) == (one,)


@given(
    st.integers(0, len(LINE) - 1),
    st.characters(exclude_characters="\x1c\x1d\x1e\x1f\x85 \t\n\r\v\f", max_codepoint=0x2FF),
)
def test_one_letter_copied_wrong_is_told_from_tampering(at: int, letter: str) -> None:
    """A line with one letter changed is refused, and not compared."""
    wrong = LINE[:at] + letter + LINE[at + 1 :]
    if wrong != LINE:
        with pytest.raises(InputRejected):
            parse(wrong)


@pytest.mark.parametrize(
    "text",
    ["", "relay-audit relay 5", LINE[:-2], f"{LINE}\n{LINE[:60]}", LINE.replace("2026-10-01T12", "2026-13-01T12")],
)
def test_what_is_no_anchor_is_refused_whole(text: str) -> None:
    """Nothing, half a line, one good line beside one that was cut short, a day that is none."""
    with pytest.raises(InputRejected):
        parse(text)


def test_a_day_that_is_none_is_refused_though_its_digits_fit() -> None:
    """The check is against slips, the not a date against nonsense."""
    from hashlib import sha256

    said = "relay-audit relay 5 2026-02-31T12:00:00Z " + "0" * 40
    with pytest.raises(InputRejected, match="not a date"):
        parse(f"{said} {sha256(said.encode()).hexdigest()[:4]}")


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    """Nothing else is raised."""
    with contextlib.suppress(InputRejected):
        parse(text)

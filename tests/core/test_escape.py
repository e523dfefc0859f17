"""Escaping of untrusted text for display."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.escape import escape


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text", "plain text"),
        ("后台", "后台"),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\nb", "a\\x0ab"),
        ("a\\b", "a\\\\b"),
        ("\u202eevil", "\\u{202e}evil"),
        ("\u2028", "\\u{2028}"),
        (b"\xff\x00", "\\\\xff\\x00"),
        ("x" * 300, "x" * 252 + "..."),
    ],
)
def test_nothing_moves_the_cursor(text: str | bytes, shown: str) -> None:
    """Control characters, bidi overrides and separators are written out; letters of any language are not."""
    assert escape(text) == shown


@given(st.one_of(st.text(max_size=400), st.binary(max_size=400)), st.integers(0, 300))
def test_what_is_shown_is_printable_and_bounded(text: str | bytes, most: int) -> None:
    """Whatever comes in."""
    shown = escape(text, most)
    # spaces of other widths (U+3000 is common in Chinese) do no harm
    assert all(letter.isprintable() or unicodedata.category(letter) == "Zs" for letter in shown)
    assert len(shown) <= max(most * 4, 3)

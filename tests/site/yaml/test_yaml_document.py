"""YAML that can be read in one way only."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import SiteInvalid
from relay.site.yaml import yaml_document


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("22:30", "22:30"),
        ("8:30", "8:30"),
        ("no", "no"),
        ("on", "on"),
        ("Yes", "Yes"),
        ("2026-12-31", "2026-12-31"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("'010'", "010"),
        ('"22"', "22"),
        ("=", "="),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("-12", -12),
        ("1.5", 1.5),
        ("-.5", -0.5),
        ("1e3", 1000.0),
        ("-.inf", -math.inf),
        ("true", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("", None),
    ],
)
def test_core_schema(text: str, value: object) -> None:
    """Scalars are read by YAML 1.2's core schema, never by the guesses of YAML 1.1."""
    found = yaml_document.load("f.yaml", f"key: {text}\n".encode()).data
    assert found == {"key": value}
    assert isinstance(found, dict)
    assert type(found["key"]) is type(value)


def test_keys_are_text() -> None:
    """A key is the text that stands there, whatever it looks like."""
    assert yaml_document.load("f.yaml", b"10: a\nno: b\n1.5: c\n").data == {"10": "a", "no": "b", "1.5": "c"}


def test_lines_of_keys_and_items() -> None:
    """Every key and every item of a list knows its line; an unknown path has the line of what is around it."""
    found = yaml_document.load("f.yaml", b"a:\n  - x\n  - {b: 1,\n     c: 2}\n\nd: e\n")
    places = {("a",): 1, ("a", 0): 2, ("a", 1): 3, ("a", 1, "b"): 3, ("a", 1, "c"): 4, ("d",): 6, ("a", 1, "z"): 3}
    assert {path: found.line(path) for path in places} == places


@pytest.mark.parametrize(
    ("raw", "line", "what"),
    [
        (b"a: 1\nb: 2\na: 3\n", 3, "the key 'a' is set a second time"),
        (b"x:\n  a: 1\n  'a': 2\n", 3, "a second time"),
        (b"a: &x 1\n", 1, "an anchor"),
        (b"a: 1\nb: *x\n", 2, "an alias"),
        (b"a: !!int '1'\n", 1, "a tag"),
        (b"a: !secret 1\n", 1, "a tag"),
        (b"a: ! 1\n", 1, "a tag"),
        (b"a:\n  <<: {b: 1}\n", 2, "a merge key"),
        (b"--- {}\n---\n{}\n", 2, "a second document"),
        (b"%YAML 1.1\n---\na: no\n", 1, "directive"),
        (b"[a]: b\n", 1, "as a key"),
        (b"a: [1\nb: 2\n", 2, "not YAML"),
        (b"a: 1\n\tb: 2\n", 2, "not YAML"),
        (b"a: \x00\n", 1, "U+0000"),
        (b"a: 1\nb: \xe2\x80\xa8state: x\n", 2, "U+2028"),
        (b"a: 1\nb: \xff\n", 2, "not UTF-8"),
        ("a: 1".encode("utf-16"), 1, "not UTF-8"),
        (b"a: " + b"[" * 40 + b"]" * 40, 1, "nested more than"),
        (b"a: " + b"9" * 41, 1, "too long"),
        (b"#" * (yaml_document.MOST_BYTES + 1), 0, "larger than"),
    ],
)
def test_refused(raw: bytes, line: int, what: str) -> None:
    """What two readers could read in two ways is a fault with its line and a cure."""
    with pytest.raises(SiteInvalid) as caught:
        yaml_document.load("f.yaml", raw)
    fault = caught.value.faults[0]
    assert (fault.file, fault.line) == ("f.yaml", line)
    assert what in fault.what
    assert fault.cure


def test_duplicate_names_the_other_place() -> None:
    """The fault of a duplicate key names the line of the first one, and the first one is kept."""
    found = yaml_document.read("f.yaml", b"a: 1\nb: 2\na: {c: 3}\n")
    assert "line 1" in found.faults[0].cure
    assert found.data == {"a": 1, "b": 2}
    assert found.line(("a",)) == 1


def test_all_faults_at_once() -> None:
    """One fault does not hide the next, and an endless number of them is cut."""
    assert len(yaml_document.read("f.yaml", b"a: &x 1\nb: *x\na: 2\n").faults) == 3
    many = yaml_document.read("f.yaml", b"a: 1\n" * 1000).faults
    assert len(many) == yaml_document.MOST_FAULTS + 1
    assert "799 more faults" in many[-1].what


def test_alias_bomb_costs_nothing() -> None:
    """Aliases are never followed, so nine levels of nine do not become a gigabyte."""
    bomb = "a: &a [x, x]\n" + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [{f'*{chr(97 + n)},' * 9}]\n" for n in range(9))
    assert yaml_document.read("f.yaml", bomb.encode()).faults


@given(
    st.one_of(st.binary(max_size=300), st.text(alphabet="ab:-[]{}&*!<>|?#%'\",\n \t~0\\", max_size=80).map(str.encode))
)
def test_any_bytes(raw: bytes) -> None:
    """Any bytes either load or give SiteInvalid, never anything else."""
    try:
        yaml_document.load("f.yaml", raw)
    except SiteInvalid as error:
        assert error.faults

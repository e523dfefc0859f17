"""Field types of a site's files: YAML values to plain values, and their JSON Schema."""

from typing import Annotated, Any

import pytest
from pydantic import TypeAdapter, ValidationError

from relay.site.field_types import EXPLICIT_NULL, Count, OneOrMany, Port, choice, duration, size_between


def parsed(annotation: Any, value: object) -> Any:
    """The value as the field reads it."""
    return TypeAdapter(annotation).validate_python(value)


@pytest.mark.parametrize(("value", "expected"), [(1, 1), (9, 9)])
def test_a_count_within_its_bounds_is_accepted(value: int, expected: int) -> None:
    """Both bounds are inclusive."""
    assert parsed(Annotated[int, Count(1, 9)], value) == expected


@pytest.mark.parametrize("value", [0, 10, True, "5", 5.0, EXPLICIT_NULL])
def test_anything_else_is_no_count(value: object) -> None:
    """Neighbours of the bounds, booleans, strings and an explicit null are refused."""
    with pytest.raises(ValidationError):
        parsed(Annotated[int, Count(1, 9)], value)


@pytest.mark.parametrize(
    ("value", "words"), [(30, "30 has no unit"), ("2h", "out of bounds"), ("soon", "is not a duration"), (True, "true")]
)
def test_a_duration_needs_a_unit_and_has_bounds(value: object, words: str) -> None:
    """A bare number is refused, because seconds and minutes would be confused."""
    assert parsed(Annotated[float, duration(1, 3600)], "1h") == 3600
    with pytest.raises(ValidationError, match=words):
        parsed(Annotated[float, duration(1, 3600)], value)


def test_one_item_needs_no_brackets() -> None:
    """A single value is a list of one; an explicit null is refused."""
    ports = Annotated[list[Port], OneOrMany()]
    assert parsed(ports, 22) == [22]
    assert parsed(ports, [22, 80]) == [22, 80]
    with pytest.raises(ValidationError, match="there is no value"):
        parsed(ports, EXPLICIT_NULL)


def test_a_choice_names_its_alternatives() -> None:
    """The hint lists what can be written."""
    with pytest.raises(ValidationError) as raised:
        parsed(Annotated[str, choice("allow", "deny")], "allowed")
    assert raised.value.errors()[0]["ctx"]["cure"] == "write allow or deny"


def test_a_size_has_a_unit_and_bounds() -> None:
    """The bounds are inclusive, in bytes."""
    field = Annotated[int, size_between(1024, 2048)]
    assert [parsed(field, text) for text in ("1KiB", "2KiB")] == [1024, 2048]
    with pytest.raises(ValidationError, match="out of bounds"):
        parsed(field, "2049B")

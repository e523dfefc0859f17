"""Field types of the site's files: each reads one YAML value into a plain value and describes itself in JSON Schema.

An explicit null is refused: leaving a key out may mean something wider than the administrator wrote.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError, core_schema

from relay.core.policy.model import Address, Network
from relay.errors import InputRejected
from relay.site import times
from relay.site.yaml import scalars


class ExplicitNull:
    """An explicit null, so that `until:` without a value is not taken for a rule without end."""


EXPLICIT_NULL = ExplicitNull()
_NO_VALUE = {"what": "there is no value", "cure": "write one, or remove the key"}


def parsed_by(parse: Callable[[object], Any]) -> PlainValidator:
    """A validator from a function that raises InputRejected; keeps the error's text and hint."""

    def validate(value: object) -> Any:
        if value is EXPLICIT_NULL:
            raise PydanticCustomError("site", "{what}", _NO_VALUE)
        try:
            return parse(value)
        except InputRejected as error:
            raise PydanticCustomError("site", "{what}", {"what": error.what, "cure": error.hint}) from None

    return PlainValidator(validate)


def text_parsed_by(parse: Callable[[str], Any], cure: str = "") -> PlainValidator:
    """A validator of a string; `cure` is the hint when the value is not one."""
    return parsed_by(lambda value: parse(scalars.text(value, cure)))


def _number_without_unit(value: object, example: str) -> None:
    """Raise InputRejected for a bare number, which has no unit."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        raise InputRejected(f"{str(value)[:20]} has no unit", f"write a unit: {example}")


def string_schema(description: str, *examples: object, **more: object) -> WithJsonSchema:
    """The JSON Schema of a string."""
    return WithJsonSchema({"type": "string", "description": description, "examples": list(examples), **more})


class OneOrMany:
    """A list, or a single item without brackets; never empty, because an empty condition would match everything."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        def wrap(value: object) -> object:
            if value is EXPLICIT_NULL:
                raise PydanticCustomError("site", "{what}", _NO_VALUE)
            return value if isinstance(value, list) else [value]

        return core_schema.no_info_before_validator_function(wrap, handler(source))

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> Any:
        many = handler(schema)
        return {"anyOf": [many["items"], many]}


def choice(*allowed: str) -> PlainValidator:
    """A validator that accepts one of `allowed`."""

    def parse(given: str) -> str:
        if given not in allowed:
            raise InputRejected(f"{given[:40]!r} is not one of the choices", f"write {' or '.join(allowed)}")
        return given

    return text_parsed_by(parse, f"write {' or '.join(allowed)}")


def duration(low: float, high: float) -> PlainValidator:
    """A validator of a duration between `low` and `high` seconds."""

    def parse(given: str) -> float:
        seconds = times.duration(given)
        if not low <= seconds <= high:
            raise InputRejected(f"{given} is out of bounds", f"from {low:g}s to {high:g}s")
        return seconds

    def with_unit(value: object) -> float:
        _number_without_unit(value, "30s, 10m, 24h, 400d")
        return parse(scalars.text(value))

    return parsed_by(with_unit)


class Count:
    """A whole number within bounds."""

    def __init__(self, low: int, high: int) -> None:
        self._low, self._high = low, high

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        return handler.generate_schema(Annotated[Any, parsed_by(self._parse)])

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> Any:
        return {"type": "integer", "minimum": self._low, "maximum": self._high}

    def _parse(self, value: object) -> int:
        low, high = self._low, self._high
        if not isinstance(value, int) or isinstance(value, bool):
            raise InputRejected(f"{str(value)[:40]!r} is not a whole number", f"write a number from {low} to {high}")
        if not low <= value <= high:
            raise InputRejected(f"{str(value)[:20]} is out of bounds", f"from {low} to {high}")
        return value


def size_between(low: int, high: int) -> PlainValidator:
    """A validator of a size between `low` and `high` bytes."""

    def parse(value: object) -> int:
        count = scalars.size(value)
        if not low <= count <= high:
            raise InputRejected(f"{value} is out of bounds", f"from {low} to {high} bytes")
        return count

    return parsed_by(parse)


Name = Annotated[str, parsed_by(scalars.name), string_schema("a name", "alice", pattern="^[a-z0-9][a-z0-9._-]{0,31}$")]
PlaceName = Annotated[
    str,
    parsed_by(scalars.place),
    string_schema("a host's or zone's name", "office", pattern="^[a-z0-9][a-z0-9._-]{0,31}$"),
]
AddressText = Annotated[Address, parsed_by(scalars.address), string_schema("an IPv4 or IPv6 address", "192.168.1.201")]
NetworkText = Annotated[
    Network, parsed_by(scalars.network), string_schema("a network, or one address", "192.168.1.0/24")
]
InterfaceText = Annotated[
    str, parsed_by(scalars.interface), string_schema("an interface's name or a pattern with * and ?", "zt*", "wg0")
]
Ports = Annotated[
    tuple[int, int],
    parsed_by(scalars.ports),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": 65535},
                {"type": "string", "pattern": "^[0-9]{1,5}( ?- ?[0-9]{1,5})?$"},
            ],
            "description": "a port or a range",
            "examples": [22, "8000-8100"],
        }
    ),
]
Port = Annotated[int, parsed_by(scalars.port), WithJsonSchema({"type": "integer", "minimum": 1, "maximum": 65535})]
Text = Annotated[str, parsed_by(scalars.text), WithJsonSchema({"type": "string"})]
MomentText = Annotated[
    times.TypedTime,
    text_parsed_by(times.moment, "write 2026-12-31 or 2026-12-31T18:00"),
    string_schema("a date (the whole day) or a time, in the site's time zone", "2026-12-31", "2026-12-31T18:00"),
]
DaysText = Annotated[
    frozenset[int],
    text_parsed_by(times.days),
    string_schema("a day or a range of days", "mon-fri", "sat", pattern="^[A-Za-z -]+$"),
]
HoursText = Annotated[
    tuple[int, int],
    text_parsed_by(times.hours, 'write "09:00-18:00"'),
    string_schema("hours of the day; an end before its start is on the next day", "09:00-18:00"),
]
DecisionText = Annotated[Literal["allow", "deny"], choice("allow", "deny"), WithJsonSchema({"enum": ["allow", "deny"]})]
DURATION_SCHEMA = string_schema("a duration with its unit", "30s", "10m", "24h", pattern="^([0-9.]+[smhdw])+$")


class StrictModel(BaseModel):
    """A mapping without unknown keys or type coercion."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, arbitrary_types_allowed=True)

"""The events of the audit log: their stable names and the fields each carries."""

from collections.abc import Mapping
from dataclasses import dataclass

Value = str | int | bool | None
SCHEMA = 1  # of a row's canonical text; grows only by adding fields


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. `id` is unique (sending it twice records it once); `time` is UTC microseconds."""

    id: str
    time: int
    name: str  # a key of NAMES
    fields: Mapping[str, Value]

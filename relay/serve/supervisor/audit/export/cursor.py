"""How far has the export come, also after a crash, and after a backup was put in the database's place?

Beside the row that was exported last stands a trail: rows before it, ever farther apart. If the database is another
one now (its rows no longer follow the last one exported), the export goes on from the newest row of the trail that
the database still has: what is sent twice is bounded, and nothing is left out.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from relay import atomic_file
from relay.core.audit.hash_chain import GENESIS

FILE = "export.position"  # in the state directory
_LARGEST = 16384  # bytes; a trail has at most 63 places


@dataclass(frozen=True, slots=True)
class ExportPosition:
    """A row that was exported; 0 and GENESIS: none."""

    seq: int = 0
    hash: str = GENESIS


@dataclass(frozen=True, slots=True)
class ExportCursor:
    """The row exported last, and the trail that leads there, newest first."""

    last: ExportPosition = ExportPosition()
    trail: tuple[ExportPosition, ...] = ()

    def moved(self, last: ExportPosition) -> "ExportCursor":
        """The position after `last` was exported too."""
        return ExportCursor(last, tuple(_thinned((self.last, *self.trail), last.seq)))

    def places(self) -> Iterator[ExportPosition]:
        """Where to go on, the best first; the beginning is always one."""
        yield self.last
        yield from self.trail
        yield ExportPosition()


def _thinned(places: tuple[ExportPosition, ...], seq: int) -> Iterator[ExportPosition]:
    """Of the places at a distance of 1, 2-3, 4-7, 8-15 ... rows the farthest each, so that one grows into the next."""
    kept: dict[int, ExportPosition] = {}
    for place in places:
        if 0 < place.seq < seq:
            kept[(seq - place.seq).bit_length()] = place
    yield from kept.values()


def load(state: Path) -> ExportCursor:
    """The position that was kept; the beginning where there is none that can be read."""
    try:
        value = json.loads((state / FILE).read_bytes()[:_LARGEST])
        places = tuple(ExportPosition(int(seq), str(digest)) for seq, digest in value["places"][:64])
    except FileNotFoundError:
        return ExportCursor()
    except (OSError, ValueError, TypeError, LookupError):
        return ExportCursor()  # everything is sent again: at least once
    return ExportCursor(places[0], places[1:]) if places else ExportCursor()


def save(state: Path, position: ExportCursor) -> None:
    """Keep it, durably. Raises OSError."""
    places = [[place.seq, place.hash] for place in (position.last, *position.trail)]
    atomic_file.replace(state / FILE, json.dumps({"places": places}).encode())

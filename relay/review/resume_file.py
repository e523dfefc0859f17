"""The file in which `relayctl audit tail --resume` keeps the last row that it printed."""

import json
from dataclasses import dataclass
from pathlib import Path

from relay import atomic_file
from relay.core.audit.hash_chain import GENESIS
from relay.errors import RelayError
from relay.review.row_source import RowSource

_LARGEST = 512  # bytes; the file holds a number and a hash
_WRITABLE = "name a file in a directory that you may write"
_START_AGAIN = "to print everything again, remove that file; readers drop the rows whose `hash` they have"


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """The last row that was printed: its number and hash. The zero value: none was."""

    seq: int = 0
    hash: str = GENESIS


def load(path: Path) -> ResumePoint:
    """The point that the file holds; the beginning of the log if there is no such file yet. Raises RelayError."""
    try:
        with path.open("rb") as file:
            value = json.loads(file.read(_LARGEST))
        seq, digest = value["seq"], value["hash"]
        if type(seq) is not int or seq < 1 or len(bytes.fromhex(digest)) != len(bytes.fromhex(GENESIS)):
            raise ValueError
    except FileNotFoundError:
        return ResumePoint()
    except OSError as error:
        raise RelayError(f"{path}: {error.strerror}", _WRITABLE) from None
    except (ValueError, TypeError, LookupError):
        raise RelayError(f"{path} is not a resume file", _START_AGAIN) from None
    return ResumePoint(seq, digest)


def save(path: Path, point: ResumePoint) -> None:
    """Replace the file, durably, with mode 0600. Raises RelayError."""
    try:
        atomic_file.replace(path, json.dumps({"seq": point.seq, "hash": point.hash}).encode() + b"\n")
    except OSError as error:
        raise RelayError(f"{path}: {error.strerror}", _WRITABLE) from None


def discarded(rows: RowSource, path: Path, point: ResumePoint) -> int:
    """How many rows after `point` are gone because retention discarded them.

    Raises RelayError if the log has no such row, or another in its place: it is another log, or a restored copy.
    """
    if point.seq == 0:
        return 0
    found = rows.after(point.seq - 1, 1)
    if found and found[0].seq == point.seq and found[0].hash == point.hash:
        return 0
    if found and found[0].seq > point.seq + 1:
        return found[0].seq - point.seq - 1
    if found and found[0].seq == point.seq + 1 and found[0].prev == point.hash:
        return 0
    raise RelayError(
        f"the log does not have row {point.seq} as in {path}: it is another log, or a restored one", _START_AGAIN
    )

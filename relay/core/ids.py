"""Ids of rows, connections and forwards: eleven characters, sortable by time, easy to type, unique on one relay.

Bits, high to low: 41 of milliseconds since 2024 (enough to 2093), 5 of thirty-seconds of a millisecond, 9 of
the slot of the process. The alphabet is Crockford's base 32 in lower case: no i, l, o, u that are easily misread.
"""

from relay.errors import InputRejected

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
LENGTH = 11
SLOTS = 512
_EPOCH_US = 1_704_067_200_000_000  # 2024-01-01T00:00:00Z
_TICK_US = 31.25
# the alphabet to the digits of int(); all other characters to an invalid digit
_DIGITS = bytes.maketrans(ALPHABET.encode(), b"0123456789abcdefghijklmnopqrstuv")
_DIGITS = bytes(digit if chr(letter) in ALPHABET else ord("!") for letter, digit in enumerate(_DIGITS))
_PAIRS = [first + second for first in ALPHABET for second in ALPHABET]
_MISREAD = str.maketrans({"o": "0", "i": "1", "l": "1"})


class Ids:
    """Generator of ids for one process; the supervisor gives each process its own slot (0 to 511), so none collide."""

    def __init__(self, slot: int) -> None:
        self._slot = slot % SLOTS
        self._last = -1

    def make(self, now_us: int) -> str:
        """An id for the instant `now_us` (UTC microseconds); later ids sort later even if the clock is set back."""
        tick = max(int((now_us - _EPOCH_US) / _TICK_US), self._last + 1, 0)
        self._last = tick
        number = (tick << 9) | self._slot
        return _text(number)


def parse(text: str) -> str:
    """The canonical form of a typed id. Raises InputRejected for anything else."""
    canonical = text.strip().lower().translate(_MISREAD)
    if len(canonical) != LENGTH or any(letter not in ALPHABET for letter in canonical):
        raise InputRejected(f"{text[:40]!r} is not an id", f"an id has {LENGTH} letters and digits, like 0k3v9x2m4qz")
    return canonical


def packed(id: str) -> bytes | None:
    """A canonical id as seven bytes that sort in the same order; None for any other text."""
    if len(id) != LENGTH or not id.isascii():
        return None
    try:
        return int(id.encode().translate(_DIGITS), 32).to_bytes(7, "big")
    except ValueError:
        return None


def unpacked(data: bytes) -> str:
    """The id of seven bytes made by `packed`."""
    return _text(int.from_bytes(data, "big"))


def _text(number: int) -> str:
    return (
        _PAIRS[number >> 45 & 1023]
        + _PAIRS[number >> 35 & 1023]
        + _PAIRS[number >> 25 & 1023]
        + _PAIRS[number >> 15 & 1023]
        + _PAIRS[number >> 5 & 1023]
        + ALPHABET[number & 31]
    )


def beginning(text: str) -> tuple[bytes, bytes] | None:
    """The least and the greatest packed id that begins with `text`; None if no id can."""
    least, greatest = packed(text.ljust(LENGTH, "0")), packed(text.ljust(LENGTH, "z"))
    return None if least is None or greatest is None else (least, greatest)


def made_at(canonical: str) -> int:
    """The time of an id in UTC microseconds, to a thirty-second of a millisecond."""
    number = 0
    for letter in canonical:
        number = number << 5 | ALPHABET.index(letter)
    return _EPOCH_US + int((number >> 9) * _TICK_US)

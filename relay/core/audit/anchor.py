"""How is a row of the audit log written on one short line, to be kept where nobody changes both?

    relay-audit fra1 1024 2026-11-26T17:30:00Z 9f2c04c5b3a1d6e27788a9b0c1d2e3f405162738 c5ce

Node, number of the row, its time (whole seconds, UTC), the first forty digits of its hash, and the first four of the
SHA-256 of all that stands before them: so a slip of the pen is told from a row that was changed. Forty digits are 160
bits: no other row has the same ones, however long somebody searches.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

from relay.errors import InputRejected

DIGITS = 40
_WORD = "relay-audit"
_LINE = re.compile(
    rf"{_WORD} +(\S{{1,64}}) +([0-9]{{1,18}}) +([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}T[0-9:]{{8}}Z)"
    rf" +([0-9a-f]{{{DIGITS}}}) +([0-9a-f]{{4}})"
)


@dataclass(frozen=True, slots=True)
class Anchor:
    """One row, as it is remembered elsewhere."""

    node: str
    seq: int
    time: int  # UTC microseconds, whole seconds
    hash: str  # its first 40 hexadecimal digits

    def __str__(self) -> str:
        clock = datetime.fromtimestamp(self.time // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        said = f"{_WORD} {self.node} {self.seq} {clock} {self.hash}"
        return f"{said} {_check(said)}"


def anchor(node: str, seq: int, time: int, hash: str) -> Anchor:
    """The anchor of a row."""
    return Anchor(node, seq, time // 1_000_000 * 1_000_000, hash[:DIGITS])


def parse(text: str) -> tuple[Anchor, ...]:
    """The anchors in a text: one line, a file of them, a mail, a system log. Raises InputRejected when there is none.

    Also for a line that was not copied as it was.
    """
    found = []
    for words in _LINE.finditer(text):
        said = f"{_WORD} {' '.join(words.groups()[:4])}"
        if words[5] != _check(said):
            raise InputRejected(
                f"the anchor of row {words[2]} was not copied as it was: its last four digits do not fit",
                "compare it with the line that was printed, digit by digit",
            )
        try:
            moment = datetime.strptime(words[3], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        except ValueError:
            raise InputRejected(f"{words[3]} is not in the calendar", "copy the anchor as it was printed") from None
        found.append(Anchor(words[1], int(words[2]), int(moment.timestamp()) * 1_000_000, words[4]))
    if not found or len(found) != text.count(f"{_WORD} "):  # one that was cut short must not be passed over
        raise InputRejected(
            f"{text.strip()[:60]!r} is no anchor", f"one begins with `{_WORD}`; relayctl audit anchor prints one"
        )
    return tuple(found)


def _check(said: str) -> str:
    return sha256(said.encode()).hexdigest()[:4]

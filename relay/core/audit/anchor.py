"""Anchors: a row of the audit log as one short line, to be kept outside the relay.

    relay-audit fra1 1024 2026-11-26T17:30:00Z 9f2c04c5b3a1d6e27788a9b0c1d2e3f405162738 c5ce

Node, number of the row, its time (whole seconds, UTC), the first forty digits of its hash, and the first four of the
SHA-256 of the preceding text, which tell a copying error from a changed row. Forty digits are 160 bits, so that no
other row with the same digits can be found.
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
    """A row's identity and hash, as kept outside the relay."""

    node: str
    seq: int
    time: int  # UTC microseconds, whole seconds
    hash: str  # its first 40 hexadecimal digits

    def __str__(self) -> str:
        clock = datetime.fromtimestamp(self.time // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        body = f"{_WORD} {self.node} {self.seq} {clock} {self.hash}"
        return f"{body} {_check(body)}"


def anchor(node: str, seq: int, time: int, hash: str) -> Anchor:
    """The anchor of a row."""
    return Anchor(node, seq, time // 1_000_000 * 1_000_000, hash[:DIGITS])


def parse(text: str) -> tuple[Anchor, ...]:
    """The anchors in a text: a line, a file, a mail, a system log.

    Raises InputRejected for a text without an anchor, and for an incorrectly copied one.
    """
    anchors = []
    for words in _LINE.finditer(text):
        body = f"{_WORD} {' '.join(words.groups()[:4])}"
        if words[5] != _check(body):
            raise InputRejected(
                f"the anchor of row {words[2]} was not copied correctly: its last four digits do not match",
                "compare it with the line that was printed, digit by digit",
            )
        try:
            moment = datetime.strptime(words[3], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        except ValueError:
            raise InputRejected(f"{words[3]} is not a date", "copy the anchor as it was printed") from None
        anchors.append(Anchor(words[1], int(words[2]), int(moment.timestamp()) * 1_000_000, words[4]))
    if not anchors or len(anchors) != text.count(f"{_WORD} "):  # a truncated anchor must not be ignored
        raise InputRejected(
            f"{text.strip()[:60]!r} is not an anchor",
            f"an anchor begins with `{_WORD}`; relayctl audit anchor prints one",
        )
    return tuple(anchors)


def _check(body: str) -> str:
    return sha256(body.encode()).hexdigest()[:4]

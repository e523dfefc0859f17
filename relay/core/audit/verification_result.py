"""What can be said of an audit log that was read from end to end?

Three answers, apart from each other: nothing was changed (integrity), nothing is missing (completeness), and this
relay wrote it (authenticity). The walk that finds them is in proof.py.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["ok", "restored", "unproven", "fault"]

MOST = 20  # findings told of one kind; the first ones say what happened


@dataclass(frozen=True, slots=True)
class VerificationFinding:
    """One thing that was found, and at which row; 0 where it is about the whole."""

    seq: int
    what: str


@dataclass(slots=True)
class VerificationAnswer:
    """One of the three answers, while it is being found."""

    faults: list[VerificationFinding] = field(default_factory=list)
    notes: list[VerificationFinding] = field(default_factory=list)  # what a reviewer should know, and is no fault
    more: int = 0  # faults beyond those listed
    restored: bool = False
    unproven: str = ""  # why nothing can be said, "" where it can

    @property
    def state(self) -> State:
        """In one word. A fault outweighs all."""
        if self.faults:
            return "fault"
        if self.unproven:
            return "unproven"
        return "restored" if self.restored else "ok"

    def fault(self, seq: int, what: str) -> None:
        """Something is wrong."""
        if len(self.faults) < MOST:
            self.faults.append(VerificationFinding(seq, what))
        else:
            self.more += 1

    def note(self, seq: int, what: str) -> None:
        """Something is to be known; the oldest ones are told."""
        if len(self.notes) < MOST:
            self.notes.append(VerificationFinding(seq, what))

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "verdict": self.state,
            "faults": [{"row": one.seq, "what": one.what} for one in self.faults],
            "more_faults": self.more,
            "notes": [{"row": one.seq, "what": one.what} for one in self.notes],
            **({"why": self.unproven} if self.unproven else {}),
        }


@dataclass(frozen=True, slots=True)
class SigningKeyLine:
    """A line of signing keys, each announced by the one before it."""

    seq: int  # of the row that began it
    reason: str  # init, lost, restored; "" where that row is not here any more
    key: str  # its first public key: what is to be kept elsewhere
    epochs: int  # checkpoints of it that hold
    given: bool  # whether one of its keys was given by who asks


@dataclass(frozen=True, slots=True)
class VerificationResult:
    """All that was found."""

    integrity: VerificationAnswer
    completeness: VerificationAnswer
    authenticity: VerificationAnswer
    first: int  # number of the first row that was read, 0: none was
    last: int
    hash: str
    time: int  # of the last row
    sealed: int  # number of the last checkpoint that holds; 0: there is none
    sealed_time: int
    anchored: int  # the newest row that an anchor proves; 0: none does
    lineages: tuple[SigningKeyLine, ...]

    @property
    def good(self) -> bool:
        """Whether none of the three has a fault."""
        return not any(one.faults for one in (self.integrity, self.completeness, self.authenticity))

    @property
    def unsealed(self) -> int:
        """How many rows no checkpoint speaks for yet."""
        return self.last - max(self.sealed, self.first - 1)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "ok": self.good,
            "integrity": self.integrity.as_json(),
            "completeness": self.completeness.as_json(),
            "authenticity": self.authenticity.as_json(),
            "first": self.first,
            "last": self.last,
            "hash": self.hash,
            "time": self.time,
            "sealed": self.sealed,
            "sealed_time": self.sealed_time,
            "unsealed": self.unsealed,
            "anchored": self.anchored,
            "keys": [
                {"row": one.seq, "reason": one.reason, "key": one.key, "checkpoints": one.epochs, "given": one.given}
                for one in self.lineages
            ],
        }

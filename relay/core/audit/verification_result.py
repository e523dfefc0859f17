"""The result of a verification of the audit log.

It has three independent answers: no row was changed (integrity), no row is missing (completeness), and this relay wrote
the log (authenticity). `log_verifier` finds them.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["ok", "restored", "unproven", "fault"]

MOST = 20  # findings kept per kind; the first ones show what happened


@dataclass(frozen=True, slots=True)
class VerificationFinding:
    """A finding and its row; 0 for the log as a whole."""

    seq: int
    what: str


@dataclass(slots=True)
class VerificationAnswer:
    """One of the three answers, filled during verification."""

    faults: list[VerificationFinding] = field(default_factory=list)
    notes: list[VerificationFinding] = field(default_factory=list)  # information that is not a fault
    more: int = 0  # faults beyond those listed
    restored: bool = False
    unproven: str = ""  # why nothing is proven, else ""

    @property
    def state(self) -> State:
        """The answer as one word; a fault outweighs all others."""
        if self.faults:
            return "fault"
        if self.unproven:
            return "unproven"
        return "restored" if self.restored else "ok"

    def fault(self, seq: int, what: str) -> None:
        """Add a fault."""
        if len(self.faults) < MOST:
            self.faults.append(VerificationFinding(seq, what))
        else:
            self.more += 1

    def note(self, seq: int, what: str) -> None:
        """Add a note; only the first ones are kept."""
        if len(self.notes) < MOST:
            self.notes.append(VerificationFinding(seq, what))

    def as_json(self) -> dict[str, Any]:
        """The answer as JSON values."""
        return {
            "verdict": self.state,
            "faults": [{"row": finding.seq, "what": finding.what} for finding in self.faults],
            "more_faults": self.more,
            "notes": [{"row": finding.seq, "what": finding.what} for finding in self.notes],
            **({"why": self.unproven} if self.unproven else {}),
        }


@dataclass(frozen=True, slots=True)
class SigningKeyLine:
    """A chain of signing keys, each announced by the one before it."""

    seq: int  # of the row that announced the first key
    reason: str  # init, lost, restored; "" if that row is no longer in the log
    key: str  # its first public key, to be kept outside the relay
    epochs: int  # valid checkpoints
    given: bool  # whether the caller supplied one of its keys


@dataclass(frozen=True, slots=True)
class VerificationResult:
    """The three answers, and how far they reach."""

    integrity: VerificationAnswer
    completeness: VerificationAnswer
    authenticity: VerificationAnswer
    first: int  # number of the first row, 0 for an empty log
    last: int
    hash: str
    time: int  # of the last row
    sealed: int  # number of the last valid checkpoint; 0 without one
    sealed_time: int
    anchored: int  # the newest row that an anchor proves; 0 without one
    lineages: tuple[SigningKeyLine, ...]

    @property
    def good(self) -> bool:
        """Whether none of the three answers has a fault."""
        return not any(answer.faults for answer in (self.integrity, self.completeness, self.authenticity))

    @property
    def unsealed(self) -> int:
        """The number of rows that no checkpoint covers yet."""
        return self.last - max(self.sealed, self.first - 1)

    def as_json(self) -> dict[str, Any]:
        """The answer as JSON values."""
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
                {
                    "row": line.seq,
                    "reason": line.reason,
                    "key": line.key,
                    "checkpoints": line.epochs,
                    "given": line.given,
                }
                for line in self.lineages
            ],
        }

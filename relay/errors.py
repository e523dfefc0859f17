"""What can go wrong, in one place.

Errors become words in exactly two places: the SSH adapter (coarse, to the client) and the command
line's group (in full, to the operator). A denial is not an error: it is a `Verdict`, a value.
"""

from dataclasses import dataclass


class RelayError(Exception):
    """Anything this project raises on purpose. The text says what and where; `hint` what to type next."""

    exit_status = 1

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint


class InputRejected(RelayError):
    """One value from outside (a target, a key line, a time, an id) is not what it must be."""


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One thing wrong in a site's files: where it is, what is wrong, and what would be right."""

    file: str
    line: int  # 1-based; 0 where the whole file is meant
    what: str
    cure: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.what}; {self.cure}" if self.cure else f"{place}: {self.what}"


class SiteInvalid(RelayError):
    """A site's files have faults; all of them are listed, not only the first."""

    def __init__(self, faults: tuple[Fault, ...], hint: str = "") -> None:
        super().__init__("\n".join(str(fault) for fault in faults), hint)
        self.faults = faults


class StoreUnavailable(RelayError):
    """The audit database cannot be written or read now: disk full, locked by another writer, damaged."""


class RowDamaged(StoreUnavailable):
    """One row of the audit log cannot be put together again; the others may be read all the same."""

    def __init__(self, seq: int, what: str, hint: str = "") -> None:
        super().__init__(what, hint)
        self.seq = seq


class NobodyAnswers(RelayError):
    """No supervisor listens on the control socket."""

    exit_status = 3


class NotPermitted(RelayError):
    """The operating system does not let this user do that (not root, wrong owner, wrong mode)."""

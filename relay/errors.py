"""The exceptions of the relay.

Errors are shown in exactly two places: by the SSH session (a short reason, to the client) and by the command line (in
full, to the operator). A denial is not an error but a value: `Decision`.
"""

from dataclasses import dataclass


class RelayError(Exception):
    """Base of all expected errors. The text says what is wrong and where; `hint` says what to type next."""

    exit_status = 1

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint


class InputRejected(RelayError):
    """An invalid value from outside: a target, a key line, a time, an id."""


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """A fault in a site's files: its place, what is wrong, and how to correct it."""

    file: str
    line: int  # 1-based; 0 for the whole file
    what: str
    cure: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.what}; {self.cure}" if self.cure else f"{place}: {self.what}"


class SiteInvalid(RelayError):
    """A site's files have faults; all of them are listed."""

    def __init__(self, faults: tuple[Fault, ...], hint: str = "") -> None:
        super().__init__("\n".join(str(fault) for fault in faults), hint)
        self.faults = faults


class StoreUnavailable(RelayError):
    """The audit database cannot be read or written: disk full, locked by another writer, damaged."""


class RowDamaged(StoreUnavailable):
    """A row of the audit log is damaged; others may be readable."""

    def __init__(self, seq: int, what: str, hint: str = "") -> None:
        super().__init__(what, hint)
        self.seq = seq


class RelayNotRunning(RelayError):
    """No supervisor listens on the control socket."""

    exit_status = 3


class NotPermitted(RelayError):
    """The operating system denies access to this user (not root, wrong owner, wrong mode)."""

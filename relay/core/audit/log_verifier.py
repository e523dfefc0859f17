"""Verifier of the audit log: integrity, completeness and authenticity, in one pass over all rows.

Rows are given as stored: number, time, name, id, forward, hash and canonical text.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from hashlib import sha256

from relay.core.audit import checkpoint
from relay.core.audit.anchor import Anchor
from relay.core.audit.checkpoint import Proves
from relay.core.audit.completeness import CompletenessCheck
from relay.core.audit.hash_chain import GENESIS
from relay.core.audit.signing_key_chain import SigningKeyChains
from relay.core.audit.verification_result import VerificationAnswer, VerificationResult

Line = tuple[int, int, str, str, str | None, str, str]  # seq, time, name, id, forward, hash, text

_SPECIAL = frozenset(
    (checkpoint.SEALED, checkpoint.KEY, "server.started", "server.stopped", "backup.restored", "audit.discarded")
)


class LogVerifier:
    """One verification of a log. `read` may be called for consecutive parts: archives, then the database."""

    def __init__(
        self,
        proves: Proves,
        *,
        keys: Collection[str] = (),
        anchors: Iterable[Anchor] = (),
        live: Mapping[str, int] | None = None,
        before: Mapping[int, str] | None = None,
    ) -> None:
        """`live`: public keys whose private keys are on this machine, with their epochs, as they were *before*
        the first row is read; None if that is unknown. `before`: hashes of rows that may be missing themselves
        (from the manifest of archives), so that the row after one can be verified.
        """
        self._live = live
        self._before = before or {}
        self._anchors: dict[int, list[Anchor]] = {}
        for anchor in anchors:
            self._anchors.setdefault(anchor.seq, []).append(anchor)
        self._unmatched: list[Anchor] = []  # anchors whose row differs or is missing
        self._integrity = VerificationAnswer()
        self._completeness = CompletenessCheck()
        self._key_chains = SigningKeyChains(proves, keys, live or ())
        self._first = self._seq = self._time = 0
        self._hash = GENESIS
        self._served = 0, 0  # row and time of the newest opening row, which only a serving relay writes
        self._anchored = 0  # the newest row that an anchor proves

    @property
    def last(self) -> int:
        """The number of the last row that was read."""
        return self._seq

    def read(self, lines: Iterable[Line]) -> None:
        """Verify these rows, which follow the rows read so far."""
        opened, closed = "forward.opened", "forward.closed"
        is_open, anchors, special = self._completeness.open, self._anchors, _SPECIAL
        for number, time, name, _, forward, stored, text in lines:
            prev = self._hash if number == self._seq + 1 else self._jump(number)
            if sha256(f"{prev}\n{text}".encode()).hexdigest() != stored:
                self._broken(number, prev)
            if name == opened:
                if forward in is_open:
                    self._completeness.reopened(number, str(forward))
                is_open.add(str(forward))
                self._served = number, time
            elif name == closed:
                if forward in is_open:
                    is_open.remove(forward)
                else:
                    self._completeness.closed(number, str(forward))
            elif name in special:
                self._special(number, prev, name, time, text)
            if time < self._completeness.edge:
                self._completeness.late(number, time)
            if number in anchors:
                self._compare(anchors.pop(number), number, stored, _node(text))
            self._seq, self._hash, self._time = number, stored, time

    def damaged(self, first: int, what: str, last: int = 0, hash: str = "") -> None:
        """Report that row `first`, or all up to row `last` with this `hash`, cannot be read; reading continues."""
        self._integrity.fault(first, what)
        if first != self._seq + 1:
            self._jump(first)
        self._seq, self._hash = max(first, last), hash
        self._completeness.blurred()
        self._key_chains.missing()

    def beside(self, what: str) -> None:
        """Report something outside the rows that contradicts them."""
        self._integrity.fault(0, what)

    def stop(self, what: str) -> None:
        """Report why reading stopped."""
        self._integrity.fault(self._seq, what)

    def end(self, now: int | None = None) -> VerificationResult:
        """The result after the last row; `now` is the time if the relay is serving."""
        self._completeness.served(*self._served)
        self._completeness.end(self._seq, now)
        lineages = self._key_chains.end()
        self._check_live_keys()
        for seq, anchors in sorted(self._anchors.items()):
            if seq in self._before:
                self._compare(anchors, seq, self._before[seq], "")
            elif seq < self._first:
                self._completeness.answer.note(seq, "an anchor of yours is of a row that is no longer in the log")
            else:
                self._unmatched += anchors
        for anchor in self._unmatched:
            self._report_unmatched(anchor)
        for answer in (self._integrity, self._completeness.answer, self._key_chains.answer):
            for findings in (answer.faults, answer.notes):
                findings.sort(key=lambda finding: finding.seq or 1 << 62)  # the first bad row comes first
        return VerificationResult(
            integrity=self._integrity,
            completeness=self._completeness.answer,
            authenticity=self._key_chains.answer,
            first=self._first or min(self._seq, 1),
            last=self._seq,
            hash=self._hash,
            time=self._time,
            sealed=self._key_chains.sealed,
            sealed_time=self._key_chains.sealed_time,
            anchored=self._anchored,
            lineages=lineages,
        )

    # ---- exceptional rows

    def _jump(self, number: int) -> str:
        """Rows before `number` are missing; returns the hash that row `number` must follow, "" if it is unknown."""
        if not self._seq:
            self._first = number
        if number <= self._seq:
            self._integrity.fault(number, f"stands behind row {self._seq}")
            return ""
        self._completeness.missing(self._seq + 1, number - 1)
        self._key_chains.missing()
        return self._before.get(number - 1, "")

    def _broken(self, number: int, prev: str) -> None:
        if prev:
            self._integrity.fault(number, "not what was written, or not behind the row that was before it")
        else:
            self._integrity.fault(number, "cannot be proven, as the row before it is not here")

    def _special(self, number: int, prev: str, name: str, time: int, text: str) -> None:
        fields = checkpoint.fields_of(text)
        match name:
            case checkpoint.SEALED:
                claimed = self._key_chains.checkpoint(number, prev, text, fields, time)
                if claimed is not None:
                    self._completeness.checkpoint(number, claimed, time)
            case checkpoint.KEY:
                self._key_chains.key(number, fields)
                self._completeness.announced()
            case "server.started":
                self._completeness.served(*self._served)
                self._completeness.started(number, time)
            case "server.stopped":
                self._completeness.stopped(number, time)
            case "backup.restored":
                self._completeness.restored(number, time)
            case _:
                self._completeness.discarded(fields)

    # ---- keys and anchors

    def _check_live_keys(self) -> None:
        """Compare the checkpoints with the keys on this machine, whose epochs tell how many there were."""
        awaited, answer = self._key_chains.awaited, self._completeness.answer
        if self._live is None or (awaited is not None and awaited[0] in self._live):
            return
        epochs = self._live.values()
        if awaited is None:
            if epochs:
                answer.fault(self._seq, "the last row; this machine has a key to sign with, and no row announces it")
        elif later := [epoch for epoch in epochs if epoch > awaited[1]]:
            missing = min(later) - awaited[1]
            answer.fault(self._seq, f"the last row; {missing} or more checkpoints that this machine signed are missing")
        elif not self._key_chains.used:  # else a checkpoint was written after the keys were read
            answer.fault(self._seq, "the last row; the key that is to sign next is not on this machine")

    def _compare(self, anchors: Iterable[Anchor], seq: int, stored: str, node: str) -> None:
        for anchor in anchors:
            if node and anchor.node != node:
                self._integrity.fault(
                    seq, f"an anchor of yours is of the log of {anchor.node}, and this is that of {node}"
                )
            elif stored.startswith(anchor.hash):
                self._anchored = max(self._anchored, seq)
            else:
                self._unmatched.append(anchor)  # reported at the end, when restored backups are known

    def _report_unmatched(self, anchor: Anchor) -> None:
        """Report an anchor whose row is missing or differs."""
        for row, time in self._completeness.restores:
            if row <= anchor.seq and anchor.time <= time:
                rows = f"rows {row} to {anchor.seq}" if row < anchor.seq else f"row {row}"
                what = f"{rows} of before, which an anchor of yours saw, went when the backup was restored"
                self._completeness.answer.fault(row, what)
                return
        if anchor.seq > self._seq:
            what = f"the last row, but an anchor of yours saw row {anchor.seq}: what was behind this one is missing"
            self._completeness.answer.fault(self._seq, what)
        else:
            self._integrity.fault(anchor.seq, "not the row that an anchor of yours saw: the log was written anew")


def _node(text: str) -> str:
    try:
        return str(json.loads(text)["node"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""

"""Is this audit log whole, complete and the relay's own? Reads it once, from the first row to the last.

Rows come as they are kept: number, time, name, id, forward, hash and canonical text. What they say is believed only as
far as the chain and the signatures carry it.
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
    """One reading of a log. `read` may be called for one part after the other: archives, then the database."""

    def __init__(
        self,
        proves: Proves,
        *,
        keys: Collection[str] = (),
        anchors: Iterable[Anchor] = (),
        live: Mapping[str, int] | None = None,
        before: Mapping[int, str] | None = None,
    ) -> None:
        """`live`: public keys whose private halves are on this machine, with their epochs, as they were *before* the
        first row is read; None where that cannot be seen. `before`: hashes of rows that may not be here themselves (an
        archive's manifest knows them); what follows such a row can still be proven.
        """
        self._live = live
        self._before = before or {}
        self._anchors: dict[int, list[Anchor]] = {}
        for one in anchors:
            self._anchors.setdefault(one.seq, []).append(one)
        self._other: list[Anchor] = []  # whose row is another one here, or is not here
        self._integrity = VerificationAnswer()
        self._vigil = CompletenessCheck()
        self._lineages = SigningKeyChains(proves, keys, live or ())
        self._first = self._seq = self._time = 0
        self._hash = GENESIS
        self._served = 0, 0  # row and time of the newest opening: only a relay that serves writes those
        self._anchored = 0  # the newest row that an anchor proves

    @property
    def last(self) -> int:
        """The number of the last row that was read."""
        return self._seq

    def read(self, lines: Iterable[Line]) -> None:
        """Read these rows, which follow those that were read."""
        opened, closed = "forward.opened", "forward.closed"
        is_open, anchors, special = self._vigil.open, self._anchors, _SPECIAL
        for number, time, name, _, forward, stored, text in lines:
            prev = self._hash if number == self._seq + 1 else self._jump(number)
            if sha256(f"{prev}\n{text}".encode()).hexdigest() != stored:
                self._broken(number, prev)
            if name == opened:
                if forward in is_open:
                    self._vigil.reopened(number, str(forward))
                is_open.add(str(forward))
                self._served = number, time
            elif name == closed:
                if forward in is_open:
                    is_open.remove(forward)
                else:
                    self._vigil.closed(number, str(forward))
            elif name in special:
                self._special(number, prev, name, time, text)
            if time < self._vigil.edge:
                self._vigil.late(number, time)
            if number in anchors:
                self._compare(anchors.pop(number), number, stored, _node(text))
            self._seq, self._hash, self._time = number, stored, time

    def damaged(self, first: int, what: str, last: int = 0, hash: str = "") -> None:
        """Row `first` cannot be read, or all up to row `last`, which has this `hash`; what is behind is read on."""
        self._integrity.fault(first, what)
        if first != self._seq + 1:
            self._jump(first)
        self._seq, self._hash = max(first, last), hash
        self._vigil.blurred()
        self._lineages.missing()

    def beside(self, what: str) -> None:
        """Something beside the rows is not as they are."""
        self._integrity.fault(0, what)

    def stop(self, what: str) -> None:
        """Nothing more was read, and why."""
        self._integrity.fault(self._seq, what)

    def end(self, now: int | None = None) -> VerificationResult:
        """Everything was read; `now` is the time where the relay is known to serve."""
        self._vigil.served(*self._served)
        self._vigil.end(self._seq, now)
        lineages = self._lineages.end()
        self._machine()
        for seq, anchors in sorted(self._anchors.items()):
            if seq in self._before:
                self._compare(anchors, seq, self._before[seq], "")
            elif seq < self._first:
                self._vigil.verdict.note(seq, "an anchor of yours is of a row that is not here any more")
            else:
                self._other += anchors
        for one in self._other:
            self._gone(one)
        for verdict in (self._integrity, self._vigil.verdict, self._lineages.verdict):
            for findings in (verdict.faults, verdict.notes):
                findings.sort(key=lambda one: one.seq or 1 << 62)  # the first bad row is told first
        return VerificationResult(
            integrity=self._integrity,
            completeness=self._vigil.verdict,
            authenticity=self._lineages.verdict,
            first=self._first or min(self._seq, 1),
            last=self._seq,
            hash=self._hash,
            time=self._time,
            sealed=self._lineages.sealed,
            sealed_time=self._lineages.sealed_time,
            anchored=self._anchored,
            lineages=lineages,
        )

    # ---- rows that are not simply the next one

    def _jump(self, number: int) -> str:
        """Other rows are not here; gives back the hash that row `number` is to follow, "" where nobody knows it."""
        if not self._seq:
            self._first = number
        if number <= self._seq:
            self._integrity.fault(number, f"stands behind row {self._seq}")
            return ""
        self._vigil.missing(self._seq + 1, number - 1)
        self._lineages.missing()
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
                said = self._lineages.checkpoint(number, prev, text, fields, time)
                if said is not None:
                    self._vigil.checkpoint(number, said, time)
            case checkpoint.KEY:
                self._lineages.key(number, fields)
                self._vigil.announced()
            case "server.started":
                self._vigil.served(*self._served)
                self._vigil.started(number, time)
            case "server.stopped":
                self._vigil.stopped(number, time)
            case "backup.restored":
                self._vigil.restored(number, time)
            case _:
                self._vigil.discarded(fields)

    # ---- what was kept elsewhere

    def _machine(self) -> None:
        """The keys of the machine know how many checkpoints there were."""
        awaited, verdict = self._lineages.awaited, self._vigil.verdict
        if self._live is None or (awaited is not None and awaited[0] in self._live):
            return
        epochs = self._live.values()
        if awaited is None:
            if epochs:
                verdict.fault(self._seq, "the last row; this machine has a key to sign with, and no row announces it")
        elif later := [epoch for epoch in epochs if epoch > awaited[1]]:
            missing = min(later) - awaited[1]
            verdict.fault(
                self._seq, f"the last row; {missing} or more checkpoints that this machine signed are missing"
            )
        elif not self._lineages.used:  # else it was sealed since the keys were looked at
            verdict.fault(self._seq, "the last row; the key that is to sign next is not on this machine")

    def _compare(self, anchors: Iterable[Anchor], seq: int, stored: str, node: str) -> None:
        for one in anchors:
            if node and one.node != node:
                self._integrity.fault(
                    seq, f"an anchor of yours is of the log of {one.node}, and this is that of {node}"
                )
            elif stored.startswith(one.hash):
                self._anchored = max(self._anchored, seq)
            else:
                self._other.append(one)  # judged when it is known what was restored

    def _gone(self, one: Anchor) -> None:
        """The row that an anchor saw is not in this log, or is another one."""
        for row, time in self._vigil.restores:
            if row <= one.seq and one.time <= time:
                rows = f"rows {row} to {one.seq}" if row < one.seq else f"row {row}"
                what = f"{rows} of before, which an anchor of yours saw, went when the backup was restored"
                self._vigil.verdict.fault(row, what)
                return
        if one.seq > self._seq:
            what = f"the last row, but an anchor of yours saw row {one.seq}: what was behind this one is missing"
            self._vigil.verdict.fault(self._seq, what)
        else:
            self._integrity.fault(one.seq, "not the row that an anchor of yours saw: the log was written anew")


def _node(text: str) -> str:
    try:
        return str(json.loads(text)["node"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""

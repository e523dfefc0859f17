"""Authenticity of the audit log: follows each signing key to the next and reports where the chain breaks.

A checkpoint's statement contains the hash of the preceding row, which covers every earlier row. A key that was noted
long ago therefore proves the whole log up to its checkpoint, even if no other key is known.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from relay.core.audit import checkpoint
from relay.core.audit.checkpoint import Checkpoint, Proves
from relay.core.audit.verification_result import SigningKeyLine, VerificationAnswer


@dataclass(slots=True)
class _KeyLine:
    seq: int
    reason: str
    key: str  # the first key
    awaited: str  # the key that must sign the next checkpoint
    epoch: int  # of the next checkpoint
    proven: int = 0  # valid checkpoints
    given: int = 0  # the row from which a supplied key proves the log; 0 without one


class SigningKeyChains:
    """The chains of signing keys of one log, filled while its rows are read."""

    def __init__(self, proves: Proves, keys: Collection[str], live: Collection[str] = ()) -> None:
        """`keys` are public keys that were kept outside the relay, `live` those of the keys on this machine."""
        self.used = (
            False  # a key from `live` signed a valid checkpoint, so that checkpoint was written during this read
        )
        self._live = live
        self.answer = VerificationAnswer()
        self.sealed = 0  # number and time of the last valid checkpoint
        self.sealed_time = 0
        self._proves = proves
        self._keys = frozenset(keys)
        self._missing = False  # rows since the preceding checkpoint are missing
        self._lines: list[_KeyLine] = []

    @property
    def awaited(self) -> tuple[str, int] | None:
        """The key that must sign the next checkpoint, and its epoch; None if no key was announced."""
        return (self._lines[-1].awaited, self._lines[-1].epoch) if self._lines else None

    def missing(self) -> None:
        """Rows are missing: they may have announced a new chain."""
        self._missing = True

    def key(self, seq: int, fields: Mapping[str, Any]) -> None:
        """Process a row `audit.key`, which begins a new chain."""
        key, reason, epoch = fields.get("key"), fields.get("reason"), fields.get("epoch")
        if (
            not isinstance(key, str)
            or not checkpoint.is_key(key)
            or reason not in checkpoint.REASONS
            or type(epoch) is not int
        ):
            self.answer.fault(seq, "announces a key that is none")
            return
        if reason == "init" and self._lines:
            self.answer.fault(seq, "announces a first key, but there had been one")
        elif reason == "init" and seq > 1 and not self._missing:
            what = "written before anything was signed; the checkpoints speak for them as they stood when this key came"
            self.answer.note(seq, f"the first key; rows 1 to {seq - 1} were {what}")
        elif reason == "lost":
            detail = str(fields.get("detail") or "the one before was not to be found")
            self.answer.note(seq, f"a new key: {detail[:200]}")
        elif reason == "restored":
            self.answer.restored = True
            self.answer.note(seq, "a new key, as a backup was restored, and no backup holds a key")
        self._missing = False
        self._lines.append(_KeyLine(seq, str(reason), key, key, epoch, given=seq if key in self._keys else 0))

    def checkpoint(self, seq: int, prev: str, text: str, fields: Mapping[str, Any], time: int) -> Checkpoint | None:
        """Process a row `audit.sealed`; returns its checkpoint, None for an invalid one."""
        signed = checkpoint.read(prev, text, fields)
        if signed is None:
            bare = not fields.get("signature")
            self.answer.fault(seq, "a checkpoint without a signature" if bare else "a checkpoint that is none")
            return None
        claimed = signed.checkpoint
        line = self._line(seq, claimed)
        fits = claimed.key == line.awaited and claimed.epoch == line.epoch
        if not fits:
            self.answer.fault(seq, f"a checkpoint of epoch {claimed.epoch} by a key that nothing before it announces")
        elif not self._proves(claimed.key, signed.signature, signed.statement):
            self.answer.fault(seq, "a checkpoint whose signature is not its key's")
            fits = False
        if fits:
            line.proven += 1
            self.sealed, self.sealed_time = seq, time
            self.used = self.used or claimed.key in self._live
            if not line.given and claimed.key in self._keys:
                line.given = seq
        line.awaited, line.epoch = claimed.next, claimed.epoch + 1  # also after a fault, so that it is reported once
        return claimed

    def _line(self, seq: int, claimed: Checkpoint) -> _KeyLine:
        """The chain that this checkpoint belongs to; after missing rows a new one begins with it."""
        hidden, self._missing = self._missing, False
        if not self._lines or (hidden and claimed.key != self._lines[-1].awaited):
            if not hidden:
                self.answer.fault(seq, "a checkpoint, and no row before it announces a key")
            self._lines.append(_KeyLine(seq, "", claimed.key, claimed.key, claimed.epoch))
        return self._lines[-1]

    def end(self) -> tuple[SigningKeyLine, ...]:
        """Complete the answer after the last row."""
        answer = self.answer
        for line in self._lines if self._keys else ():
            if not line.given:
                answer.fault(line.seq, f"a line of keys begins that has none of those you gave: {line.key}")
            elif not line.proven:
                answer.fault(line.seq, "your key is announced, but no checkpoint is signed with it yet")
            elif line.given != line.seq:
                answer.note(line.given, "the first checkpoint that your key proves; it speaks for all rows before it")
        if not self._lines:
            answer.unproven = "nothing is signed: no row announces a key"
            if self._keys:
                answer.fault(0, answer.unproven)
        elif not self.sealed:
            answer.unproven = "there is no checkpoint yet"
        elif not self._keys:
            answer.unproven = (
                "each signature follows from the one before; only you can tell whether the first key is genuine: "
            )
            answer.unproven += "compare it with the key that `init` printed, or pass that key with `--key`"
        return tuple(
            SigningKeyLine(line.seq, line.reason, line.key, line.proven, bool(line.given)) for line in self._lines
        )

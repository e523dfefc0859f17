"""Who wrote the audit log? Follows the signing keys from each to the next, and finds where they do not lead on.

What a signature proves: the checkpoint's statement names the hash of the row before, and by it every row before. So a
key that somebody noted long ago proves all that stood in the log when its checkpoint was written, however little is
known of the keys before and after.
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
    key: str  # its first
    awaited: str  # the key that is to sign next
    epoch: int  # of the checkpoint that is next
    proven: int = 0  # checkpoints that hold
    given: int = 0  # the row from which on a given key proves it; 0: none does


class SigningKeyChains:
    """The lines of keys of one log, while its rows are read."""

    def __init__(self, proves: Proves, keys: Collection[str], live: Collection[str] = ()) -> None:
        """`keys` are public keys that were kept elsewhere, `live` those of the keys on this machine."""
        self.used = False  # one of `live` signed a checkpoint that holds: it was made while the log is read
        self._live = live
        self.verdict = VerificationAnswer()
        self.sealed = 0  # number and time of the last checkpoint that holds
        self.sealed_time = 0
        self._proves = proves
        self._keys = frozenset(keys)
        self._missing = False  # rows since the checkpoint before are not here
        self._lines: list[_KeyLine] = []

    @property
    def awaited(self) -> tuple[str, int] | None:
        """The key that must sign next, and its epoch; None where no key was ever announced."""
        return (self._lines[-1].awaited, self._lines[-1].epoch) if self._lines else None

    def missing(self) -> None:
        """Rows are not here: a new line may have begun in them."""
        self._missing = True

    def key(self, seq: int, fields: Mapping[str, Any]) -> None:
        """A row `audit.key`: a new line begins."""
        key, reason, epoch = fields.get("key"), fields.get("reason"), fields.get("epoch")
        if (
            not isinstance(key, str)
            or not checkpoint.is_key(key)
            or reason not in checkpoint.REASONS
            or type(epoch) is not int
        ):
            self.verdict.fault(seq, "announces a key that is none")
            return
        if reason == "init" and self._lines:
            self.verdict.fault(seq, "announces a first key, but there had been one")
        elif reason == "init" and seq > 1 and not self._missing:
            what = "written before anything was signed; the checkpoints speak for them as they stood when this key came"
            self.verdict.note(seq, f"the first key; rows 1 to {seq - 1} were {what}")
        elif reason == "lost":
            detail = str(fields.get("detail") or "the one before was not to be found")
            self.verdict.note(seq, f"a new key: {detail[:200]}")
        elif reason == "restored":
            self.verdict.restored = True
            self.verdict.note(seq, "a new key, as a backup was restored, and no backup holds a key")
        self._missing = False
        self._lines.append(_KeyLine(seq, str(reason), key, key, epoch, given=seq if key in self._keys else 0))

    def checkpoint(self, seq: int, prev: str, text: str, fields: Mapping[str, Any], time: int) -> Checkpoint | None:
        """A row `audit.sealed`; gives back what it says, None when it cannot be read."""
        signed = checkpoint.read(prev, text, fields)
        if signed is None:
            bare = not fields.get("signature")
            self.verdict.fault(seq, "a checkpoint without a signature" if bare else "a checkpoint that is none")
            return None
        said = signed.checkpoint
        line = self._line(seq, said)
        fits = said.key == line.awaited and said.epoch == line.epoch
        if not fits:
            self.verdict.fault(seq, f"a checkpoint of epoch {said.epoch} by a key that nothing before it announces")
        elif not self._proves(said.key, signed.signature, signed.statement):
            self.verdict.fault(seq, "a checkpoint whose signature is not its key's")
            fits = False
        if fits:
            line.proven += 1
            self.sealed, self.sealed_time = seq, time
            self.used = self.used or said.key in self._live
            if not line.given and said.key in self._keys:
                line.given = seq
        line.awaited, line.epoch = said.next, said.epoch + 1  # also after a fault, so that one is told once
        return said

    def _line(self, seq: int, said: Checkpoint) -> _KeyLine:
        """The line of keys that this checkpoint belongs to; where rows are not here, one begins with it."""
        hidden, self._missing = self._missing, False
        if not self._lines or (hidden and said.key != self._lines[-1].awaited):
            if not hidden:
                self.verdict.fault(seq, "a checkpoint, and no row before it announces a key")
            self._lines.append(_KeyLine(seq, "", said.key, said.key, said.epoch))
        return self._lines[-1]

    def end(self) -> tuple[SigningKeyLine, ...]:
        """All rows were read: what is to be said of the whole."""
        verdict = self.verdict
        for line in self._lines if self._keys else ():
            if not line.given:
                verdict.fault(line.seq, f"a line of keys begins that has none of those you gave: {line.key}")
            elif not line.proven:
                verdict.fault(line.seq, "your key is announced, but no checkpoint is signed with it yet")
            elif line.given != line.seq:
                verdict.note(line.given, "the first checkpoint that your key proves; it speaks for all rows before it")
        if not self._lines:
            verdict.unproven = "nothing is signed: no row announces a key"
            if self._keys:
                verdict.fault(0, verdict.unproven)
        elif not self.sealed:
            verdict.unproven = "there is no checkpoint yet"
        elif not self._keys:
            verdict.unproven = "each signature follows from the one before; whether the first key is the relay's own "
            verdict.unproven += "you can tell: compare it with what was printed, or give that with --key"
        return tuple(SigningKeyLine(one.seq, one.reason, one.key, one.proven, bool(one.given)) for one in self._lines)

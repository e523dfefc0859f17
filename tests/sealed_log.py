"""A sealed audit log in memory, for the tests of what proves it: rows, checkpoints, and keys that sign."""

import base64
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from relay.core.audit import checkpoint
from relay.core.audit.anchor import Anchor, anchor
from relay.core.audit.checkpoint import Checkpoint
from relay.core.audit.event import Event
from relay.core.audit.hash_chain import GENESIS, canonical, digest
from relay.core.audit.log_verifier import Line
from relay.store import signing_key
from relay.store.signing_key import SigningKey
from relay.store.writer import FILE, AuditWriter
from tests.audit_rows import Relay

WITHIN = 900


def signer(epoch: int) -> SigningKey:
    """A key that is in no file."""
    private = Ed25519PrivateKey.generate()
    return SigningKey(epoch, base64.b64encode(private.public_key().public_bytes_raw()).decode(), private)


class SealedLog:
    """Rows as a relay writes them, one second apart; `lines` is what a verifier reads."""

    def __init__(self) -> None:
        self.relay = Relay()
        self.lines: list[Line] = []
        self.events: list[Event] = []
        self.signer = signer(1)  # the key that signs next
        self.first = self.signer.public
        self.open: set[str] = set()
        self.sealed = 0

    def add(self, *events: Event) -> "SealedLog":
        """Append rows."""
        self.events += events
        for event in events:
            prev = self.lines[-1][5] if self.lines else GENESIS
            seq = self.lines[-1][0] + 1 if self.lines else 1
            text = canonical("relay", seq, event)
            forward = event.fields.get("forward")
            if event.name == "forward.opened":
                self.open.add(str(forward))
            elif event.name == "forward.closed":
                self.open.discard(str(forward))
            line = (seq, event.time, event.name, event.id, forward, digest(prev, text), text)
            self.lines.append(line)  # type: ignore[arg-type] # a forward's id is a text
        return self

    def key(self, reason: str = "init", **fields: Any) -> "SealedLog":
        """A line of keys begins."""
        if reason != "init":
            self.signer = signer(self.signer.epoch + 1)
        told = {"key": self.signer.public, "epoch": self.signer.epoch, "reason": reason, **fields}
        return self.add(self.relay.event(checkpoint.KEY, **told))

    def seal(self, *, after: float = 1.0, by: SigningKey | None = None, **changed: Any) -> "SealedLog":
        """A checkpoint, `after` so many seconds; what is `changed` in it is signed like that."""
        used = by or self.signer
        following = signer(used.epoch + 1)
        self.relay.now += int((after - 1) * 1_000_000)
        seq, prev = self.lines[-1][0] + 1, self.lines[-1][5]
        told = {
            "epoch": used.epoch,
            "key": used.public,
            "next": following.public,
            "count": seq - self.sealed - 1,
            "open": len(self.open),
            "within": WITHIN,
            "policy": "3f2a9c01b7de",
            **changed,
        }
        id = self.relay.id()
        event = checkpoint.seal(
            Checkpoint(**told), used.sign, node="relay", seq=seq, prev=prev, id=id, time=self.relay.now
        )
        self.add(event)
        self.signer, self.sealed = following, seq
        return self

    def anchor(self, seq: int = 0) -> Anchor:
        """The anchor of a row; of the last one."""
        line = self.lines[seq - 1]
        return anchor("relay", line[0], line[1], line[5])

    def store(self, state: Path) -> None:
        """Put it on a disk, as if a relay had written it."""
        writer = AuditWriter(state / FILE, "relay")
        writer.append(self.events)
        writer.close()
        (state / signing_key.DIRECTORY).mkdir()
        name = base64.urlsafe_b64encode(base64.b64decode(self.signer.public)).decode().rstrip("=")
        file = state / signing_key.DIRECTORY / f"{self.signer.epoch}-{name}"
        file.write_bytes(self.signer.private.private_bytes_raw())
        file.chmod(0o600)

    @property
    def live(self) -> dict[str, int]:
        """What lies on the machine: the key that signs next, and the one made ready after it."""
        return {self.signer.public: self.signer.epoch, signer(0).public: self.signer.epoch + 1}


def day() -> SealedLog:
    """A small day: a start, two people's forwards, checkpoints between, one forward open at the end."""
    log = SealedLog()
    relay = log.relay
    log.key().add(relay.event("server.started", version="0.1.0"))
    alice = relay.connect()
    log.add(relay.login(alice)).seal()
    first, second = relay.opened(alice), relay.opened(alice, "192.168.1.50:443", "192.168.1.50")
    log.add(first, second).seal()
    log.add(relay.closed(first), relay.denied(alice)).seal()
    return log.add(relay.opened(alice), relay.closed(second)).seal()


def rechained(lines: list[Line], begin: int, texts: dict[int, str]) -> list[Line]:
    """The rows with some of their texts replaced, and all hashes from row `begin` on made to fit."""
    made = list(lines[: begin - 1])
    for line in lines[begin - 1 :]:
        text = texts.get(line[0], line[6])
        prev = made[-1][5] if made else GENESIS
        made.append((*line[:5], digest(prev, text), text))
    return made

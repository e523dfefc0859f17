"""Authenticity: each signing key is announced by the one before it."""

from collections.abc import Collection

import pytest

from relay.core.audit.checkpoint import Checkpoint, statement
from relay.core.audit.signing_key_chain import SigningKeyChains

PREV = "ab" * 32
SIGNATURE = "A" * 86 + "=="
KEYS = [f"{letter * 43}=" for letter in "ABCDE"]


def chains(keys: Collection[str] = (), *, genuine: bool = True) -> SigningKeyChains:
    """Chains after row 1 announced the first key. Signatures are valid if `genuine`."""
    made = SigningKeyChains(lambda key, signature, signed: genuine, keys)
    made.key(1, {"key": KEYS[0], "reason": "init", "epoch": 0})
    return made


def seal(made: SigningKeyChains, seq: int, epoch: int, key: str, following: str) -> None:
    """Add a checkpoint of this key, which announces the following one."""
    fields = {**Checkpoint(epoch, key, following, count=1, open=0, within=60).fields(), "signature": SIGNATURE}
    made.checkpoint(seq, PREV, f'{{"count":1,"signature":"{SIGNATURE}"}}', fields, seq)


def faults(made: SigningKeyChains) -> list[tuple[int, str]]:
    """Row and text of each fault."""
    return [(finding.seq, finding.what) for finding in made.answer.faults]


def test_a_chain_of_announced_keys_is_authentic() -> None:
    """Each checkpoint is signed by the key that the one before announced."""
    made = chains([KEYS[0]])
    seal(made, 2, 0, KEYS[0], KEYS[1])
    seal(made, 3, 1, KEYS[1], KEYS[2])
    (line,) = made.end()
    assert (faults(made), made.answer.state) == ([], "ok")
    assert (line.epochs, line.given, made.sealed, made.awaited) == (2, True, 3, (KEYS[2], 2))


def test_without_a_supplied_key_the_chain_is_unproven() -> None:
    """Whether the first key is the relay's own cannot be told from the log."""
    made = chains()
    seal(made, 2, 0, KEYS[0], KEYS[1])
    made.end()
    assert made.answer.state == "unproven"


@pytest.mark.parametrize(("epoch", "key"), [(0, KEYS[3]), (1, KEYS[0])])
def test_a_checkpoint_by_another_key_or_of_another_epoch_is_a_fault(epoch: int, key: str) -> None:
    """Only the announced key signs, and only its own epoch."""
    made = chains()
    seal(made, 2, epoch, key, KEYS[1])
    assert faults(made) == [(2, f"a checkpoint of epoch {epoch} by a key that nothing before it announces")]


def test_an_invalid_signature_is_a_fault() -> None:
    """The right key does not help if its signature is wrong."""
    made = chains(genuine=False)
    seal(made, 2, 0, KEYS[0], KEYS[1])
    assert faults(made) == [(2, "a checkpoint whose signature is not its key's")]
    assert made.sealed == 0


def test_a_second_first_key_is_a_fault() -> None:
    """A log has one first key."""
    made = chains()
    made.key(2, {"key": KEYS[1], "reason": "init", "epoch": 0})
    assert faults(made) == [(2, "announces a first key, but there had been one")]


def test_a_supplied_key_that_no_chain_has_is_a_fault() -> None:
    """A log whose keys are all foreign is not the one that the key was printed for."""
    made = chains([KEYS[4]])
    seal(made, 2, 0, KEYS[0], KEYS[1])
    made.end()
    assert faults(made) == [(1, f"a line of keys begins that has none of those you gave: {KEYS[0]}")]


def test_the_statement_names_the_preceding_row() -> None:
    """The signed bytes contain the hash of the row before."""
    assert PREV.encode() in statement(PREV, "{}")

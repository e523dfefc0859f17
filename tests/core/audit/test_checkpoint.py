"""Checkpoints: their fields, their signed statement and their signature."""

import base64
from collections.abc import Mapping

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from relay.core.audit import checkpoint
from relay.core.audit.checkpoint import Checkpoint
from relay.core.audit.event import Value
from relay.core.audit.hash_chain import canonical

PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KEY = base64.b64encode(PRIVATE.public_key().public_bytes_raw()).decode()
NEXT = base64.b64encode(bytes(32)).decode()
PREV = "ab" * 32
CHECKPOINT = Checkpoint(3, KEY, NEXT, count=7, open=2, within=960, policy="0123456789ab")


def sealed() -> tuple[str, Mapping[str, Value]]:
    """The canonical text and the fields of a signed checkpoint, row 9."""
    event = checkpoint.seal(
        CHECKPOINT,
        lambda statement: base64.b64encode(PRIVATE.sign(statement)).decode(),
        node="relay",
        seq=9,
        prev=PREV,
        id="0k3v9x2m4qz",
        time=1_700_000_000_000_000,
    )
    return canonical("relay", 9, event), event.fields


def valid(prev: str, text: str, fields: Mapping[str, Value]) -> bool:
    """Whether the row is a checkpoint with a valid Ed25519 signature."""
    signed = checkpoint.read(prev, text, fields)
    if signed is None:
        return False
    try:
        PRIVATE.public_key().verify(base64.b64decode(signed.signature), signed.statement)
    except InvalidSignature:
        return False
    return True


def test_a_sealed_checkpoint_is_read_back_and_its_signature_is_valid() -> None:
    """Reading returns what was sealed, and an independent Ed25519 implementation accepts the signature."""
    text, fields = sealed()
    signed = checkpoint.read(PREV, text, fields)
    assert signed is not None
    assert signed.checkpoint == CHECKPOINT
    assert valid(PREV, text, fields)


def test_the_signature_covers_the_preceding_hash_and_every_field() -> None:
    """With another preceding row, or a changed count, the signature is invalid."""
    text, fields = sealed()
    assert not valid("cd" * 32, text, fields)
    assert not valid(PREV, text.replace('"count":7', '"count":8'), {**fields, "count": 8})


@pytest.mark.parametrize(
    "change",
    [{"signature": None}, {"signature": "A" * 88}, {"epoch": -1}, {"count": "7"}, {"open": True}, {"key": "short"}],
)
def test_an_invalid_or_unsigned_row_is_no_checkpoint(change: dict[str, Value]) -> None:
    """A row without a signature, or with a field of the wrong form, is not read."""
    text, fields = sealed()
    assert checkpoint.read(PREV, text, {**fields, **change}) is None


@pytest.mark.parametrize(("text", "expected"), [(KEY, True), (KEY[:-1], False), (f"{KEY}\n", False), (None, False)])
def test_a_public_key_is_32_bytes_in_base64(text: object, expected: bool) -> None:
    """Shorter text, trailing line ends and other types are no key."""
    assert checkpoint.is_key(text) is expected


@pytest.mark.parametrize("text", ["", "[]", '{"fields": []}', "[" * 100_000])
def test_fields_of_an_invalid_text_are_empty(text: str) -> None:
    """Any text is read without an exception."""
    assert checkpoint.fields_of(text) == {}

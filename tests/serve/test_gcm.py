"""How many cipher objects a worker keeps (relay/serve/gcm.py); real peers show that they seal and open rightly."""

import os

import pytest
from asyncssh.encryption import GCMEncryption, get_encryption

from relay.serve import gcm
from relay.serve.gcm import Direction, Seal, Unseal


def test_more_directions_than_cipher_objects_lose_no_packet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five pairs and three objects: each packet opens as what was sealed, and no more than three are ever kept."""
    monkeypatch.setattr(gcm, "KEPT", 3)
    gcm._made.clear()
    pairs = []
    for _ in range(5):
        key, iv = os.urandom(16), os.urandom(12)
        pairs.append((Seal(_asyncsshs(key, iv)), Unseal(_asyncsshs(key, iv))))
    for number in range(40):
        for seal, unseal in pairs if number % 2 else pairs[::-1]:
            data = b"%d" % number + os.urandom(number)
            header = len(data).to_bytes(4, "big")
            sealed, tag = seal.encrypt_packet(0, header, data)
            assert unseal.decrypt_packet(0, header, sealed[4:], 4, tag) == data
            assert sum(_has_one(direction) for pair in pairs for direction in pair) <= 3
    assert len(gcm._made) == 3


def _has_one(direction: Direction) -> bool:
    return direction._aead is not None


def _asyncsshs(key: bytes, iv: bytes) -> GCMEncryption:
    found = get_encryption(b"aes128-gcm@openssh.com", key, iv, b"", b"", False)
    assert isinstance(found, GCMEncryption)
    return found

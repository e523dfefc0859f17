"""AES-GCM objects that share key and counter with asyncssh's, and come out the same."""

from typing import cast

import pytest
from asyncssh.encryption import GCMEncryption, get_encryption

from relay.serve.worker.ssh.fastpath.aes_gcm import MASK, TAG, GcmDecryptor, GcmEncryptor, numbered

CIPHERS = {b"aes128-gcm@openssh.com": 16, b"aes256-gcm@openssh.com": 32}
# the second counter is one below the overflow (RFC 5647 7.1)
STARTS = [bytes(range(12)), b"four" + b"\xff" * 7 + b"\xfe"]


def theirs(cipher: bytes, start: bytes) -> GCMEncryption:
    """asyncssh's object for one direction."""
    return cast(GCMEncryption, get_encryption(cipher, bytes(range(CIPHERS[cipher])), start))


@pytest.mark.parametrize("start", STARTS, ids=["plain", "overflow"])
@pytest.mark.parametrize("cipher", CIPHERS, ids=bytes.decode)
def test_both_directions_agree_with_asyncssh(cipher: bytes, start: bytes) -> None:
    """Three packets sealed by either are opened by the other, across the overflow of the counter too."""
    encryptor, their_decryptor = GcmEncryptor(theirs(cipher, start)), theirs(cipher, start)
    their_encryptor, decryptor = theirs(cipher, start), GcmDecryptor(theirs(cipher, start))
    head, body = (32).to_bytes(4, "big"), bytes(range(32))
    for number in range(3):
        data, tag = encryptor.encrypt_packet(number, head, body)
        assert (data, tag) == their_encryptor.encrypt_packet(number, head, body)
        assert their_decryptor.decrypt_packet(number, data[:16], data[16:], 4, tag) == body
        assert decryptor.decrypt_header(number, data[:16], 4) == (data[:16], head)
        assert decryptor.decrypt_packet(number, data[:16], data[16:], 4, tag) == body


def test_a_counter_is_taken_over_where_asyncssh_left_it() -> None:
    """After packets of asyncssh's own no nonce is used twice."""
    cipher, start = b"aes128-gcm@openssh.com", STARTS[0]
    used, reference = theirs(cipher, start), theirs(cipher, start)
    for one in (used, reference):
        one.encrypt_packet(0, bytes(4), bytes(32))
    assert GcmEncryptor(used).encrypt_packet(1, bytes(4), bytes(32)) == reference.encrypt_packet(1, bytes(4), bytes(32))


def test_a_packet_that_does_not_verify_is_none() -> None:
    """A changed tag gives no plain text."""
    cipher, start = b"aes128-gcm@openssh.com", STARTS[0]
    data, tag = theirs(cipher, start).encrypt_packet(0, bytes(4), bytes(32))
    spoilt = bytes([tag[0] ^ 1]) + tag[1:]
    assert len(spoilt) == TAG
    assert GcmDecryptor(theirs(cipher, start)).decrypt_packet(0, data[:16], data[16:], 4, spoilt) is None


@pytest.mark.parametrize("first", [0, MASK - 2, MASK])
def test_nonces_of_a_run_are_those_of_its_packets(first: int) -> None:
    """A run of nonces equals as many single ones, and the counter begins again after the last."""
    one = GcmEncryptor(theirs(b"aes128-gcm@openssh.com", b"four" + first.to_bytes(8, "big")))
    run = list(numbered(one.fixed, one.count, 4))
    assert run == [one.next_nonce() for _ in range(4)]
    assert len(set(run)) == 4

"""Packets sealed in place are what asyncssh opens."""

import os
import socket
from typing import cast

from asyncssh.encryption import GCMEncryption, get_encryption
from hypothesis import given
from hypothesis import strategies as st

from relay.serve.worker.ssh.fastpath import to_client
from relay.serve.worker.ssh.fastpath.aes_gcm import GcmEncryptor
from tests.serve import hostile
from tests.serve.hostile import uint32


@given(st.integers(1, to_client.MAX_FRAME), st.sampled_from([1 << 14, 1 << 15, 1 << 17]))
def test_asyncssh_opens_the_packets_of_a_frame(count: int, packet: int) -> None:
    """Data of any size becomes packets that verify, in order, full but for the last, with random padding."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        said = os.urandom(count)
        ours.sendall(said)
        cipher = get_encryption(b"aes128-gcm@openssh.com", bytes(16), bytes(12))
        one = to_client.ClientWriter()
        assert one.read(theirs, to_client.MAX_FRAME, packet) == count
        wire, packets, length = one.seal(GcmEncryptor(cast(GCMEncryption, cipher)), 0xFFFFFFFE, count)
        assert len(wire) == length + packets * 20
        found, padding, at = b"", b"", 0
        for _ in range(packets):
            size = int.from_bytes(wire[at : at + 4], "big")
            data = bytes(wire[at : at + 4 + size + 16])
            body = cipher.decrypt_packet(0, data[:16], data[16:-16], 4, data[-16:])
            assert body is not None
            assert body[1:6] == bytes([hostile.DATA]) + uint32(0xFFFFFFFE)
            said_here = hostile.strings(body[6 : -body[0]])
            assert len(said_here) == 1
            found += said_here[0]
            padding += body[-body[0] :]
            at += len(data)
        assert at == len(wire)
        assert found == said
        assert len(set(padding)) > 1

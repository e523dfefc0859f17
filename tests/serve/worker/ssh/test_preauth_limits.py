"""Bounds of what one client may send before log-in."""

import asyncssh
import pytest

from relay.serve.worker.ssh.preauth_limits import MAX_BUFFERED, MAX_BYTES, MAX_PACKETS, PreauthLimits


def test_one_packet_too_many_is_an_error() -> None:
    """Exactly MAX_PACKETS packets are accepted."""
    limits = PreauthLimits()
    for _ in range(MAX_PACKETS):
        limits.count_packet()
    with pytest.raises(asyncssh.ProtocolError, match="too many packets"):
        limits.count_packet()


def test_one_byte_too_many_is_an_error() -> None:
    """Exactly MAX_BYTES bytes are accepted in all, and MAX_BUFFERED of them may wait."""
    limits = PreauthLimits()
    limits.count_bytes(MAX_BYTES, MAX_BUFFERED)
    with pytest.raises(asyncssh.ProtocolError, match="too many bytes"):
        limits.count_bytes(1, 0)
    with pytest.raises(asyncssh.ProtocolError, match="too many bytes"):
        PreauthLimits().count_bytes(1, MAX_BUFFERED + 1)

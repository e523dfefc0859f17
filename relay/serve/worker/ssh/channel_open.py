"""CHANNEL_OPEN (RFC 4254 5.1): `direct-tcpip` within the limits of the connection, and no other channel."""

from asyncssh.connection import SSHServerConnection
from asyncssh.constants import (
    OPEN_ADMINISTRATIVELY_PROHIBITED,
    OPEN_RESOURCE_SHORTAGE,
    OPEN_UNKNOWN_CHANNEL_TYPE,
)
from asyncssh.packet import SSHPacket

from relay.serve.worker.ssh import window_budget
from relay.serve.worker.ssh.channel import DirectTcpipChannel
from relay.serve.worker.ssh.handlers import SessionHandler

CHANNEL_PACKET = 1 << 15
MIN_CHANNEL_PACKET = 256  # bytes a client must accept in one packet: with 1, one read of a target is 65,536 packets
KNOWN_CHANNELS = frozenset(
    b"session x11 auth-agent@openssh.com forwarded-tcpip direct-streamlocal@openssh.com tun@openssh.com"
    b" forwarded-streamlocal@openssh.com".split()
)


def process_channel_open(
    connection: SSHServerConnection, session: SessionHandler, packet: SSHPacket, *, buffer: int
) -> None:
    """Begin to open a forward, or refuse the channel.

    `buffer`: bytes that may wait for the client in all forwards of the connection. Raises PacketDecodeError.
    """
    kind = packet.get_string()
    number, window, size = packet.get_uint32(), packet.get_uint32(), packet.get_uint32()
    if kind != b"direct-tcpip":
        text = session.refused("channel", kind)
        code = OPEN_ADMINISTRATIVELY_PROHIBITED if kind in KNOWN_CHANNELS else OPEN_UNKNOWN_CHANNEL_TYPE
        connection.send_channel_open_failure(number, code, text, "")
        return
    host, port = packet.get_string(), packet.get_uint32()
    packet.get_string(), packet.get_uint32()  # the originator: written by the client, and not used
    packet.check_end()
    if connection._transport is None:
        return  # behind a disconnect in the same read
    if size < MIN_CHANNEL_PACKET or not session.may_open():
        text = "relay: too many forwards in this connection"
        connection.send_channel_open_failure(number, OPEN_RESOURCE_SHORTAGE, text, "")
        return
    lent = session.lend()
    if not lent:
        text = "relay: no memory is left for more forwards, please try again"
        connection.send_channel_open_failure(number, OPEN_RESOURCE_SHORTAGE, text, "")
        return
    channel = DirectTcpipChannel(connection, connection._loop, None, "strict", lent, CHANNEL_PACKET)
    channel.set_write_buffer_limits(min(window_budget.BUFFER, buffer // max(session.forwards, 1)))
    channel.process_open(number, window, size, session.forward(host, port, lent))

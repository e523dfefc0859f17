"""Global requests (RFC 4254 4): keepalives and proofs of host keys are answered, all others are refused."""

from asyncssh.connection import SSHServerConnection
from asyncssh.constants import MSG_REQUEST_FAILURE, MSG_REQUEST_SUCCESS
from asyncssh.packet import SSHPacket, String

from relay.serve.worker.ssh.handlers import SessionHandler

MAX_PROOFS = 4  # requests for proofs of host keys in one connection; each signature costs time
QUIET_REQUESTS = frozenset([b"no-more-sessions@openssh.com"])  # every OpenSSH client sends it; it only narrows


class GlobalRequests:
    """Answers the global requests of one connection."""

    def __init__(self, connection: SSHServerConnection) -> None:
        self._connection = connection
        self._proofs_left = MAX_PROOFS

    def process(self, session: SessionHandler, packet: SSHPacket) -> None:
        """Answer one request. Raises PacketDecodeError."""
        name, want_reply = packet.get_string(), packet.get_boolean()
        answer = b"" if name == b"keepalive@openssh.com" else None
        if name == b"hostkeys-prove-00@openssh.com":
            answer = self._prove_host_keys(packet)
        elif answer is None and name not in QUIET_REQUESTS:
            session.refused("global", name)
        if want_reply and answer is not None:
            self._connection.send_packet(MSG_REQUEST_SUCCESS, answer)
        elif want_reply:
            self._connection.send_packet(MSG_REQUEST_FAILURE)

    def _prove_host_keys(self, packet: SSHPacket) -> bytes | None:
        """Sign for host keys that the client does not know yet (OpenSSH PROTOCOL 2.5); None: refused."""
        known = self._connection._all_server_host_keys
        self._proofs_left -= 1
        blobs = []
        while packet:
            blobs.append(packet.get_string())
        if self._proofs_left < 0 or not blobs or len(blobs) > len(known):
            return None
        head = String(b"hostkeys-prove-00@openssh.com") + String(self._connection._session_id)
        signatures = []
        for blob in blobs:
            key = known.get(blob)
            if key is None:
                return None
            signatures.append(String(key.sign(head + String(blob))))
        return b"".join(signatures)

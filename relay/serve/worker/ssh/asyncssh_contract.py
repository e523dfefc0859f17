"""Do the installed asyncssh, and asyncio, have what we touch of their private members? Looked at once, before serving.

All of them are listed here. Without one of NEEDED, which both paths lean on to close the library's gaps, a worker does
not serve. FAST are those that only the fast path (`intake`, `frame`, `gcm`), what is dealt with at once of a log-in
(`stranger`, `exchange`) and what saves memory (`settled`) need: if one of them is missing, or its AES-GCM does not come
out as ours does, everything goes the inherited path, which is slower, and the operator is told. A new version of
asyncssh is a change of its own: see tests/serve/test_contract.py for the methods whose meaning is repeated here.
"""

import os
from asyncio.selector_events import BaseSelectorEventLoop
from collections.abc import Iterable, Iterator, Mapping
from types import CodeType, FunctionType

import asyncssh
from asyncssh.channel import SSHTCPChannel
from asyncssh.connection import SSHServerConnection
from asyncssh.crypto.cipher import GCMCipher
from asyncssh.encryption import GCMEncryption, get_encryption
from asyncssh.packet import SSHPacketLogger
from cryptography.exceptions import InvalidTag

from relay.errors import RelayError
from relay.serve.worker.ssh.fastpath.aes_gcm import GcmDecryptor, GcmEncryptor
from relay.serve.worker.ssh.fastpath.to_client import ClientWriter

SWITCH = "RELAY_FAST_PATH"  # "no" in the environment: the inherited path for everything

# only clients, certificates and listeners, none of which a relay has, would put something into these
NEVER_USED = (
    "_revoked_host_keys",
    "_server_sig_algs",
    "_trusted_ca_keys",
    "_trusted_host_key_algs",
    "_trusted_host_keys",
    "_x509_revoked_certs",
    "_x509_revoked_subjects",
    "_x509_trusted_subjects",
)
# what a connection keeps less of, or another one, once its key is proven (see `settled`)
LET_GO = (
    *NEVER_USED,
    "_client_kexinit",
    "_close_event",
    "_extensions_to_send",
    "_extra",
    "_logger",
    "_protocol_factory",
    "_server_kexinit",
)
# public ones too where we say otherwise than asyncssh: under another name ours would never be asked
NEEDED = {
    SSHServerConnection: (
        "_all_server_host_keys",
        "_auth",
        "_auth_complete",
        "_cleanup",
        "_client_version",
        "_close_event",
        "_deferred_packets",
        "_enc_algs",
        "_finish_recv_packet",
        "_force_close",
        "_ignore_first_kex",
        "_inpbuf",
        "_kex_algs",
        "_kex_complete",
        "_kexinit_sent",
        "_login_timer",
        "_login_timer_callback",
        "_loop",
        "_make_global_request",
        "_options",
        "_owner",
        "_packet_handlers",
        "_process_channel_open",
        "_process_global_request",
        "_process_kexinit",
        "_process_userauth_request",
        "_protocol_factory",
        "_recv_data",
        "_recv_version",
        "_rekey_bytes_sent",
        "_send",
        "_send_disconnect",
        "_send_kexinit",
        "_server_host_key",
        "_server_host_key_algs",
        "_session_id",
        "_transport",
        "_username",
        "data_received",
        "internal_error",
        "pause_writing",
        "reload_config",
        "resume_writing",
        "send_newkeys",
        "send_packet",
        "send_userauth_failure",
    ),
    SSHTCPChannel: (
        "_close_send",
        "_conn",
        "_flush_send_buf",
        "_packet_handlers",
        "_pause_resume_writing",
        "_process_close",
        "_process_extended_data",
        "_process_request",
        "_process_window_adjust",
        "_recv_buf",
        "_recv_state",
        "_send_buf",
        "_send_buf_len",
        "_send_chan",
        "_send_state",
        "_send_window",
        "_session",
        "abort",
        "close",
    ),
}
FAST = {
    SSHServerConnection: (
        *LET_GO,
        "_auth_final",
        "_auth_in_progress",
        "_can_recv_ext_info",
        "_can_send_ext_info",
        "_channels",
        "_cmp_alg_cs",
        "_cmp_alg_sc",
        "_compressor",
        "_decompressor",
        "_enc_alg_cs",
        "_enc_alg_sc",
        "_kex",
        "_mac_alg_cs",
        "_mac_alg_sc",
        "_next_recv_encryption",
        "_next_service",
        "_options",
        "_packet",
        "_process_newkeys",
        "_recv_encryption",
        "_recv_handler",
        "_recv_packet",
        "_recv_pkthdr",
        "_recv_seq",
        "_rekey_bytes",
        "_rekey_seconds",
        "_rekey_time",
        "_send_encryption",
        "_send_seq",
        "_strict_kex",
    ),
    SSHTCPChannel: (
        "_accept_data",
        "_flush_recv_buf",
        "_init_recv_window",
        "_recv_paused",
        "_recv_window",
        "_send_paused",
        "_send_pktsize",
    ),
    BaseSelectorEventLoop: ("_make_socket_transport",),
    GCMEncryption: ("_cipher",),
    GCMCipher: ("_iv", "_key"),
    SSHPacketLogger: ("_log_packet",),
}


def demand() -> None:
    """Raises RelayError for an asyncssh by which nobody can be served."""
    if missing := _missing(NEEDED):
        raise RelayError(
            f"asyncssh {asyncssh.__version__} has no {', '.join(missing)}: nobody can be served by it",
            "install the version of asyncssh that this relay was released with",
        )


def problem() -> str:
    """Why the fast path is not taken, "" when it is."""
    if os.environ.get(SWITCH) == "no":
        return f"{SWITCH}=no is set"
    if missing := _missing(FAST):
        return f"asyncssh or asyncio has no {', '.join(missing)}"
    try:
        return next(_differences(), "")
    except Exception as error:  # whatever it is, the other path does not need it
        return f"AES-GCM cannot be taken over: {error!r}"


def _missing(members: Mapping[type, Iterable[str]]) -> list[str]:
    return [f"{owner.__name__}.{name}" for owner, names in members.items() for name in lacking((owner,), names)]


def lacking(owners: Iterable[type], names: Iterable[str]) -> list[str]:
    """Which of these members none of the classes' methods ever mentions."""
    known = {name for owner in owners for function in _functions(owner) for name in _mentioned(function.__code__)}
    known |= {name for owner in owners for name in dir(owner)}
    return [name for name in names if name not in known]


def _functions(owner: type) -> Iterator[FunctionType]:
    for base in owner.__mro__:
        for member in vars(base).values():
            if isinstance(member, FunctionType):
                yield member


def _mentioned(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield from _mentioned(part)


def _differences() -> Iterator[str]:
    """Seal in place and let asyncssh open it; let asyncssh seal and open it in place."""
    for name, size in ((b"aes128-gcm@openssh.com", 16), (b"aes256-gcm@openssh.com", 32)):
        key, start, text = bytes(range(size)), bytes(range(12)), b"contract"

        def theirs(name: bytes = name, key: bytes = key, start: bytes = start) -> GCMEncryption:
            made = get_encryption(name, key, start)
            assert isinstance(made, GCMEncryption)
            return made

        frame, seal = ClientWriter(), GcmEncryptor(theirs())
        wire = bytes(frame.seal(seal, 7, frame.put(text)).wire)
        packet = theirs().decrypt_packet(0, wire[:16], wire[16:-16], 4, wire[-16:])
        if packet is None or packet[10 : -packet[0]] != text or seal.count != GcmEncryptor(theirs()).count + 1:
            yield f"what is sealed in place by {name.decode()} is not what asyncssh opens"
        sealed, tag = theirs().encrypt_packet(0, wire[:4], packet or b"")
        room, unseal = memoryview(bytearray(sealed + tag)), GcmDecryptor(theirs())
        try:
            unseal.cipher().decrypt_into(unseal.next_nonce(), room[4:], room[:4], room[4:-16])
        except InvalidTag:
            room = memoryview(b"")
        if bytes(room[4:-16]) != packet:
            yield f"what asyncssh seals by {name.decode()} does not open in place"

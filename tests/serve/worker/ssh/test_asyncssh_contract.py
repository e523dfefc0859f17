"""What the relay relies on in asyncssh: its version, its private members, and its behaviour."""

import ast
import hashlib
import inspect
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType

import pytest
from asyncssh.auth import _ServerPublicKeyAuth
from asyncssh.channel import SSHChannel, SSHTCPChannel
from asyncssh.connection import SSHConnection, SSHServerConnection
from asyncssh.crypto.cipher import GCMCipher
from asyncssh.encryption import GCMEncryption
from asyncssh.logging import SSHLogger
from asyncssh.packet import SSHPacket, SSHPacketLogger
from asyncssh.public_key import SSHKey

from relay.errors import RelayError
from relay.serve import ssh_algorithms
from relay.serve.worker.authentication import Authentication
from relay.serve.worker.ssh import asyncssh_contract, channel, connection
from tests.relay_process import Relay, echo_server, relay, wait_for
from tests.serve import hostile
from tests.serve.hostile import Client, Gone, load_key, string, uint32

pytestmark = pytest.mark.xdist_group("serve-contract")

SSH = Path(asyncssh_contract.__file__).parent
CLASSES = (
    *(SSHServerConnection, SSHTCPChannel, GCMEncryption, GCMCipher, SSHLogger, SSHPacketLogger, SSHPacket, SSHKey),
)
OURS = ((connection.Connection, SSHServerConnection), (channel.DirectTcpipChannel, SSHTCPChannel))
# The private members of asyncssh that relay/serve uses, read or overrides. Another version: see what they mean there.
USED = frozenset(
    """
    _accept_data _all_server_host_keys _auth _auth_complete _auth_final _auth_in_progress _channels _cipher _cleanup
    _client_version _close_send _compressor _conn _decompressor _deferred_packets _enc_algs _finish_recv_packet
    _finish_userauth _flush_recv_buf _flush_send_buf _force_close _ignore_first_kex _init_recv_window _inpbuf _iv
    _kex _kex_algs _kex_complete _kexinit_sent _key _log_packet _loop _make_global_request _next_recv_encryption
    _owner _packet _packet_handlers _pause_resume_writing _process_channel_open _process_close
    _process_extended_data _process_global_request _process_kexinit _process_request _process_userauth_request
    _process_window_adjust _protocol_factory _recv_buf _recv_data _recv_encryption _recv_handler _recv_packet
    _recv_paused _recv_pkthdr _recv_seq _recv_state _recv_version _recv_window _rekey_bytes _rekey_bytes_sent
    _rekey_seconds _rekey_time _send_buf _send_buf_len _send_chan _send_disconnect _send_encryption _send_kexinit
    _send_paused _send_pktsize _send_seq _send_state _send_window _server_host_key_algs _server_kexinit _session
    _session_id _transport _username
    """.split()  # noqa: SIM905 - eighty literals would be five times as long
)
# What our code repeats of asyncssh 2.24.1, and where. Another version: read what has changed, change ours, and then the
# mark. (The first 12 digits of the SHA-256 of the method's source.)
REPEATED = {
    (SSHConnection, "_recv_pkthdr"): ("FastPath.read, ClientReader._decrypt", "7adc4d88fe20"),
    (SSHConnection, "_recv_packet"): ("FastPath.dispatch_payload, ClientReader._pass", "b3daa22e9763"),
    (SSHConnection, "_finish_recv_packet"): ("FastPath.count_packets", "e12d96db58b3"),
    (SSHConnection, "_recv_data"): ("Connection.buffer_updated", "fc4e0735191b"),
    (SSHConnection, "send_packet"): ("FastPath.can_send and carry, ClientWriter.seal", "fb9da7bec6dd"),
    (SSHConnection, "_send"): ("FastPath.carry", "c6698a37eb80"),
    (SSHConnection, "send_newkeys"): ("FastPath.new_keys", "0b4123442037"),
    (SSHConnection, "_process_newkeys"): ("FastPath.usable_decryptor", "a0331fe3cfd0"),
    (SSHConnection, "_process_userauth_request"): ("userauth.process_userauth_request", "9d1a0e42d15a"),
    (SSHConnection, "_finish_userauth"): ("userauth.process_userauth_request", "bd2146536318"),
    (_ServerPublicKeyAuth, "_start"): ("Connection.validate_public_key", "f736fe6663fc"),
    (SSHConnection, "_process_kexinit"): ("Connection._exchange_keys", "439bdf2fc55e"),
    (SSHConnection, "_send_kexinit"): ("Connection._send_kexinit", "275ddc818b59"),
    (SSHChannel, "_process_data"): ("DirectTcpipChannel.receivable", "342490795c4b"),
    (SSHChannel, "_accept_data"): ("DirectTcpipChannel.deliver and _accept_data", "33121e9e185c"),
    (SSHChannel, "_deliver_data"): ("DirectTcpipChannel.deliver", "bd94ccbaa59a"),
    (SSHChannel, "_flush_recv_buf"): ("DirectTcpipChannel._flush_recv_buf", "22d7ff2363a4"),
    (SSHChannel, "_process_window_adjust"): ("DirectTcpipChannel.grant", "7a2e4c4998e0"),
    (SSHChannel, "_process_close"): ("DirectTcpipChannel._process_close", "65c1f876b753"),
    (SSHChannel, "_discard_recv"): ("DirectTcpipChannel._leave, whose states it ends", "24cf487dbe2f"),
    (SSHChannel, "_flush_send_buf"): ("DirectTcpipChannel.pass_on", "3f11e9dc27c5"),
    (SSHChannel, "write"): ("DirectTcpipChannel.pass_on", "1045e2000846"),
    (GCMEncryption, "encrypt_packet"): ("GcmEncryptor.encrypt_packet", "6a59190103ea"),
    (GCMEncryption, "decrypt_packet"): ("GcmDecryptor.decrypt_packet", "6feb840baa11"),
    (GCMCipher, "encrypt_and_sign"): ("GcmEncryptor", "adb87dbdb4f9"),
    (GCMCipher, "verify_and_decrypt"): ("GcmDecryptor", "c09eb5b36d0f"),
    (GCMCipher, "_update_iv"): ("GcmDirection.next_nonce", "bce250a8d9dc"),
}


def mentioned(code: CodeType) -> Iterator[str]:
    """The names that a function's code uses."""
    yield from code.co_names
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield from mentioned(part)


def members() -> set[str]:
    """The names of all members of asyncssh's classes: those of the class, and those that its methods set or read."""
    found = {name for owner in CLASSES for name in dir(owner)}
    for owner in CLASSES:
        for base in owner.__mro__:
            for member in vars(base).values():
                if isinstance(member, FunctionType):
                    found |= {*mentioned(member.__code__)}
    return found


def used(module: Path) -> set[str]:
    """The private members of asyncssh that a module uses, as attributes or by name."""
    is_subclass = module in (SSH / "connection.py", SSH / "channel.py")  # only there `self` may be asyncssh's
    found = set()
    for node in ast.walk(ast.parse(module.read_text())):
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls")) if not is_subclass:
                pass
            case ast.Attribute(attr=name):
                found.add(name)
            case ast.Call(
                func=ast.Name(id="getattr" | "setattr" | "hasattr" | "delattr"), args=[_, ast.Constant(name), *_]
            ):
                found.add(str(name))
    return {name for name in found if name.startswith("_") and not name.startswith("__")} & members()


def overridden() -> set[str]:
    """The private methods of asyncssh that our classes override."""
    names = {name for ours, base in OURS for name in vars(ours) if hasattr(base, name)}
    return {name for name in names if name.startswith("_") and not name.startswith("__")}


def test_every_private_member_that_is_used_exists() -> None:
    """Each listed name is a member of the installed asyncssh."""
    assert sorted(USED - members()) == []


def test_the_list_of_private_members_is_complete() -> None:
    """The listed names are exactly those that relay/serve/worker uses or overrides."""
    modules = {str(path.relative_to(SSH.parent)): used(path) for path in SSH.parent.rglob("*.py")}
    assert {name: sorted(more) for name, found in modules.items() if (more := found - USED)} == {}
    assert modules["authentication.py"] == {"_session_id"}  # so it would be found there
    assert sorted(overridden() - USED) == [], "under another name asyncssh would never call these"
    assert sorted(USED - set().union(overridden(), *modules.values())) == [], "listed, and not used"


def test_another_version_of_asyncssh_is_refused() -> None:
    """The pinned version serves; for another one the error says which to install."""
    asyncssh_contract.check_version()
    with pytest.raises(RelayError, match=r"asyncssh 2\.99\.0 is installed") as caught:
        asyncssh_contract.check_version("2.99.0")
    assert caught.value.hint == "install it: pip install asyncssh==2.24.1"


def test_the_pinned_version_is_the_required_one() -> None:
    """pyproject.toml and the contract name the same version."""
    pyproject = (SSH.parents[3] / "pyproject.toml").read_text()
    assert f'"asyncssh=={asyncssh_contract.VERSION}"' in pyproject


def test_a_worker_with_another_asyncssh_ends_with_a_reason(tmp_path: Path) -> None:
    """The process ends before it has joined a supervisor, with words for the operator instead of a traceback."""
    (tmp_path / "run").mkdir()
    code = (
        "from relay.serve.worker.ssh import asyncssh_contract; from relay.serve.worker import process;"
        "asyncssh_contract.VERSION = '2.99.0'; process.main()"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code, str(tmp_path), "w1"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("relay: asyncssh 2.24.1 is installed: this relay serves with asyncssh 2.99.0 only")
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.parametrize(("owner", "name"), REPEATED, ids=lambda value: getattr(value, "__name__", value))
def test_what_the_fast_path_repeats_is_what_it_was(owner: type, name: str) -> None:
    """A method of asyncssh whose meaning we repeat has not changed; if it has, see where it is repeated."""
    where, mark = REPEATED[owner, name]
    found = hashlib.sha256(inspect.getsource(getattr(owner, name)).encode()).hexdigest()[:12]
    assert found == mark, f"{owner.__name__}.{name} is another one: look at {where}"


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "inherited"])
def test_which_path_is_taken_is_told(tmp_path: Path, fast: bool) -> None:
    """Switched off, bytes go the inherited path: they arrive all the same, and log, doctor and metrics say so."""
    place = tmp_path / "metrics.sock"
    one = Relay(tmp_path, settings=f"workers: 1\nmetrics: {place}\n")
    if not fast:
        one.environ["RELAY_FAST_PATH"] = "no"
    try:
        one.start()
        with echo_server() as port, Client(one.port) as client:
            client.login("alice", load_key(one.key))
            number, remote = client.open("remote", port)
            said = bytes(range(256)) * 1024
            client.write(remote, said)
            assert client.read(number, len(said)) == said
        wait_for(place.exists, "no metrics")
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(place))
            sock.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            page = b"".join(iter(lambda: sock.recv(1 << 16), b"")).decode()
        assert f"relay_workers_slow {0 if fast else 1}" in page
        assert ("RELAY_FAST_PATH=no is set" in one.log()) is not fast
        assert ("fast path" in one.ctl("doctor", status=None)) is not fast
    finally:
        one.end()


@pytest.mark.parametrize("name", ["root", "", "alice", "\0", "x" * 1000])
def test_begin_auth_is_always_true(one: Relay, name: str) -> None:
    """asyncssh logs a client in without a credential when begin_auth is not true: "none" is refused for all."""
    assert inspect.signature(Authentication.begin_auth).return_annotation is bool
    assert not inspect.iscoroutinefunction(Authentication.begin_auth)
    with Client(one.port) as client:
        client.service()
        try:
            client.send(client.request(name, "none"))
            assert client.receive()[0] == hostile.USERAUTH_FAILURE
        except Gone:
            pass  # a name that cannot be prepared (RFC 4013) ends the connection


def test_only_pinned_algorithms_are_offered(one: Relay) -> None:
    """The relay's KEXINIT has our lists and nothing of the library's: no SHA-1, no CBC, no NIST curves, no zlib."""
    with Client(one.port, exchange=False) as client:
        client.hello()
        lists = [part.decode().split(",") for part in hostile.strings(client.expect(hostile.KEXINIT)[17:])[:8]]
    assert [name for name in lists[0] if not name.startswith(("kex-strict", "ext-info"))] == list(ssh_algorithms.KEX)
    assert lists[1] == ["ssh-ed25519"]
    ciphers = {*ssh_algorithms.GCM, *ssh_algorithms.CTR, *ssh_algorithms.CHACHA}
    assert set(lists[2]) | set(lists[3]) <= ciphers
    assert set(lists[4]) == set(lists[5]) == set(ssh_algorithms.MAC)
    assert lists[6] == lists[7] == ["none"]


def test_a_wrong_guess_is_skipped(one: Relay, echo: int) -> None:
    """RFC 4253 7.1: a guess is wrong unless the first entries agree; Dropbear always guesses."""
    with Client(one.port, exchange=False) as client:
        client.hello()
        plain = client.kexinit

        def guessing(*, follows: bool = True, kex: str = "curve25519-sha256") -> bytes:
            return plain(follows=follows, kex=kex)

        send = client.send
        guessed = []

        def with_guess(*payloads: bytes) -> None:
            send(*payloads)
            if payloads[0][0] == hostile.KEXINIT:
                guessed.append(True)
                send(bytes([hostile.ECDH_INIT]) + string(bytes(range(32))))

        client.kexinit = guessing  # type: ignore[method-assign]  # a client that lies
        client.send = with_guess  # type: ignore[method-assign]  # likewise
        client.exchange()
        assert guessed
        client.login("alice", load_key(one.key))
        client.echo("remote", echo)


def test_an_unfit_key_exchange_ends_with_a_reason(one: Relay) -> None:
    """No algorithm in common, points of the wrong size or order: a disconnect, no traceback."""
    with Client(one.port, exchange=False) as client:
        client.hello()
        client.send(client.kexinit(kex="diffie-hellman-group1-sha1"))
        with pytest.raises(Gone):
            while True:
                client.receive()
    for point in (b"", bytes(32), bytes(31), bytes(33), b"\xff" * 32, bytes(100_000)):
        with Client(one.port, exchange=False) as client:
            client.hello()
            client.send(client.kexinit())
            try:
                client.send(bytes([hostile.ECDH_INIT]) + string(point))
                client.sock.shutdown(socket.SHUT_WR)
                client.gone()
            except (Gone, OSError):
                pass


@pytest.mark.slow
def test_a_silent_client_is_asked_and_given_up(tmp_path: Path) -> None:
    """A client that answers no keepalive is gone; one that answers stays. Its forwards get their rows."""
    settings = "workers: 1\nlimits: {keepalive_interval: 1s, keepalive_count: 1}\n"
    with relay(tmp_path, settings=settings) as one, echo_server() as port:
        with Client(one.port) as silent, Client(one.port) as answering:
            for client in (silent, answering):
                client.login("alice", load_key(one.key))
                client.open("remote", port)
            deadline = time.monotonic() + 3.5
            while time.monotonic() < deadline:
                request = answering.expect(hostile.GLOBAL_REQUEST)
                if b"keepalive" in request:
                    answering.send(bytes([hostile.REQUEST_FAILURE]))
            silent.gone()
            answering.echo("remote", port)
        one.wait_row("connection.closed", detail="client does not answer keepalives")


def test_half_close_in_both_orders_ends_the_channel(one: Relay) -> None:
    """Destination EOF first, then the client's: the channel is closed (asyncssh's own forwarder hangs for ever)."""
    with socket.create_server(("127.0.0.2", 0)) as listener, Client(one.port) as client:
        client.login("alice", load_key(one.key))
        for target_first in (True, False):
            number, channel = client.open("remote", listener.getsockname()[1])
            sock, _ = listener.accept()
            with sock:
                if target_first:
                    sock.sendall(b"bye")
                    sock.shutdown(socket.SHUT_WR)
                    assert client.read(number, 3) == b"bye"
                    client.expect(hostile.EOF)
                    client.write(channel, b"later")
                    client.send(bytes([hostile.EOF]) + uint32(channel))
                    assert sock.recv(5) == b"later"
                    assert sock.recv(5) == b""
                else:
                    client.write(channel, b"done")
                    client.send(bytes([hostile.EOF]) + uint32(channel))
                    assert sock.recv(4) == b"done"
                    assert sock.recv(4) == b""
                    sock.sendall(b"answer")
                    sock.shutdown(socket.SHUT_WR)
                    assert client.read(number, 6) == b"answer"
                client.expect(hostile.CLOSE)
                client.send(bytes([hostile.CLOSE]) + uint32(channel))

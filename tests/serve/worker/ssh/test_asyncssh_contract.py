"""What the relay relies on in asyncssh, row by row of the contract, where no other file here shows it."""

import ast
import hashlib
import inspect
import socket
import subprocess
import sys
import time
from asyncio.selector_events import BaseSelectorEventLoop
from pathlib import Path

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
from relay.serve.worker.ssh import asyncssh_contract, channel, connection, key_exchange, preauth
from tests.relay_process import Relay, echo_server, relay, wait_for
from tests.serve import hostile
from tests.serve.hostile import Client, Gone, load_key, string, uint32

pytestmark = pytest.mark.xdist_group("serve-contract")


CLASSES = (
    *(SSHServerConnection, SSHTCPChannel, GCMEncryption, GCMCipher, SSHLogger, SSHPacketLogger, SSHPacket, SSHKey),
    BaseSelectorEventLoop,  # asyncio's own, of which one member saves a task for each client
)
MEMBERS = (*asyncssh_contract.NEEDED.items(), *asyncssh_contract.FAST.items())
TOUCHED = {name for _, names in MEMBERS for name in names}
OURS = (
    (connection.Connection, SSHServerConnection),
    (key_exchange.KeyExchangeLayer, SSHServerConnection),
    (preauth.PreauthLayer, SSHServerConnection),
    (channel.DirectTcpipChannel, SSHTCPChannel),
)
# What the fast path repeats of asyncssh 2.24.1, and where. Another version: read what has changed, change ours, and
# then the mark. (The first 12 digits of the SHA-256 of the method's source.)
REPEATED = {
    (SSHConnection, "_recv_pkthdr"): ("Connection.plain_intake and take_rest, Intake._unseal", "7adc4d88fe20"),
    (SSHConnection, "_recv_packet"): ("Intake._unseal and _pass, Stranger._take_packet", "b3daa22e9763"),
    (SSHConnection, "_finish_recv_packet"): ("Connection.count_packets, Stranger._take_packet", "e12d96db58b3"),
    (SSHConnection, "_recv_data"): ("Connection.buffer_updated, Stranger._my_turn", "fc4e0735191b"),
    (SSHConnection, "send_packet"): (
        "Connection.sends_plain and send_frame, Frame.seal, Stranger._tell",
        "fb9da7bec6dd",
    ),
    (SSHConnection, "_send"): ("Connection.send_frame", "c6698a37eb80"),
    (SSHConnection, "send_newkeys"): ("Connection._take_keys", "0b4123442037"),
    (SSHConnection, "_process_newkeys"): ("Connection.plain_intake", "a0331fe3cfd0"),
    (SSHConnection, "__init__"): ("Mould and EACH in settled", "41da2e469f2a"),
    (SSHServerConnection, "__init__"): ("Mould in settled", "1609a442fc4f"),
    (SSHConnection, "_process_service_request"): ("Stranger._service", "faadd33529d2"),
    (SSHConnection, "_process_userauth_request"): ("Stranger._ask", "9d1a0e42d15a"),
    (SSHConnection, "_finish_userauth"): ("Stranger._ask", "bd2146536318"),
    (_ServerPublicKeyAuth, "_start"): ("Stranger._prove", "f736fe6663fc"),
    (SSHConnection, "_process_kexinit"): ("Exchange._known_offer", "439bdf2fc55e"),
    (SSHConnection, "_send_kexinit"): ("Exchange._known_offer", "275ddc818b59"),
    (SSHChannel, "_process_data"): ("Channel.receivable", "342490795c4b"),
    (SSHChannel, "_accept_data"): ("Channel.deliver and _accept_data", "33121e9e185c"),
    (SSHChannel, "_deliver_data"): ("Channel.deliver", "bd94ccbaa59a"),
    (SSHChannel, "_flush_recv_buf"): ("Channel._flush_recv_buf", "22d7ff2363a4"),
    (SSHChannel, "_process_window_adjust"): ("Channel.grant", "7a2e4c4998e0"),
    (SSHChannel, "_process_close"): ("Channel._process_close", "65c1f876b753"),
    (SSHChannel, "_discard_recv"): ("Channel._leave, whose states it ends", "24cf487dbe2f"),
    (SSHChannel, "_flush_send_buf"): ("Channel.pass_on", "3f11e9dc27c5"),
    (SSHChannel, "write"): ("Channel.pass_on", "1045e2000846"),
    (GCMEncryption, "encrypt_packet"): ("Seal.encrypt_packet", "6a59190103ea"),
    (GCMEncryption, "decrypt_packet"): ("Unseal.decrypt_packet", "6feb840baa11"),
    (GCMCipher, "encrypt_and_sign"): ("Seal", "adb87dbdb4f9"),
    (GCMCipher, "verify_and_decrypt"): ("Unseal", "c09eb5b36d0f"),
    (GCMCipher, "_update_iv"): ("Direction.next_nonce", "bce250a8d9dc"),
}


def test_every_private_member_that_is_touched_is_there() -> None:
    """Each name in the lists is a member of the installed asyncssh: it can be served by, and the fast path fits it."""
    assert [(owner, name) for owner, names in MEMBERS for name in asyncssh_contract.lacking((owner,), names)] == []
    asyncssh_contract.demand()
    assert asyncssh_contract.problem() == ""


def touched(module: Path) -> set[str]:
    """The private members of asyncssh's that a module mentions, as attributes or by their names."""
    # where asyncssh is subclassed what is one's own may be its, elsewhere what is one's own is not
    subclasses = module.stem in ("connection", "exchange", "stranger", "channel")
    found = set()
    for node in ast.walk(ast.parse(module.read_text())):
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls")) if not subclasses:
                pass
            case ast.Attribute(attr=name):
                found.add(name)
            case ast.Call(
                func=ast.Name(id="getattr" | "setattr" | "hasattr" | "delattr"), args=[_, ast.Constant(name), *_]
            ):
                found.add(str(name))
    found = {name for name in found if name.startswith("_") and not name.startswith("__")}
    return found - {*asyncssh_contract.lacking(CLASSES, found)}


def test_every_private_member_that_is_touched_is_listed() -> None:
    """What any module of the serving code mentions of asyncssh's private members stands in `contract`, and no other."""
    modules = {path.stem: touched(path) for path in Path(asyncssh_contract.__file__).parent.glob("*.py")}
    assert {name: more for name, found in modules.items() if (more := found - TOUCHED)} == {}
    assert modules["adapter"] == {"_session_id"}  # so it would be found there
    overridden = {name for kind, base in OURS for name in vars(kind) if hasattr(base, name)}
    overridden = {name for name in overridden if not name.startswith("__")}
    assert overridden - TOUCHED == set(), "under another name asyncssh would never call these"
    assert (
        TOUCHED - set().union(*modules.values(), overridden, asyncssh_contract.NEVER_USED, key_exchange.MEMBERS)
        == set()
    ), "listed, and not touched"


def test_an_asyncssh_that_is_another_one_serves_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what closes the library's gaps a worker does not serve at all, and says what is missing."""
    monkeypatch.setitem(asyncssh_contract.NEEDED, SSHTCPChannel, ("_process_request", "_not_there"))
    with pytest.raises(RelayError, match=r"has no SSHTCPChannel\._not_there: nobody can be served by it"):
        asyncssh_contract.demand()


def test_a_worker_that_cannot_serve_says_so_and_ends(tmp_path: Path) -> None:
    """The process ends before it has joined a supervisor, with words for the operator instead of a traceback."""
    code = (
        "from relay.serve.worker.ssh import asyncssh_contract; from relay.serve.worker import process;"
        "from asyncssh.connection import SSHServerConnection as owner;"
        "contract.NEEDED[owner] = ('_not_there',); worker.main()"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code, str(tmp_path), "w1"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("relay: asyncssh 2.24.1 has no SSHServerConnection._not_there: nobody can be served")
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.parametrize(("owner", "name"), REPEATED, ids=lambda value: getattr(value, "__name__", value))
def test_what_the_fast_path_repeats_is_what_it_was(owner: type, name: str) -> None:
    """A method of asyncssh whose meaning we repeat has not changed; if it has, see where it is repeated."""
    where, mark = REPEATED[owner, name]
    found = hashlib.sha256(inspect.getsource(getattr(owner, name)).encode()).hexdigest()[:12]
    assert found == mark, f"{owner.__name__}.{name} is another one: look at {where}"


def test_without_what_it_needs_the_fast_path_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing member, or a cipher that comes out otherwise, is a reason in words; so is the switch."""
    monkeypatch.setitem(asyncssh_contract.FAST, SSHTCPChannel, ("_recv_window", "_not_there"))
    assert asyncssh_contract.problem() == "asyncssh or asyncio has no SSHTCPChannel._not_there"
    monkeypatch.undo()
    monkeypatch.setattr(GCMCipher, "_update_iv", lambda self: None)
    assert asyncssh_contract.problem() == ""  # the first packet alone is compared
    monkeypatch.setattr(GCMCipher, "encrypt_and_sign", lambda self, header, data: (header + data, bytes(16)))
    assert "does not open in place" in asyncssh_contract.problem()
    monkeypatch.undo()
    monkeypatch.setattr(GCMEncryption, "__init__", lambda self, cipher: setattr(self, "_cipher", None))
    assert asyncssh_contract.problem().startswith("AES-GCM cannot be taken over")
    monkeypatch.undo()
    monkeypatch.setenv(asyncssh_contract.SWITCH, "no")
    assert asyncssh_contract.problem() == "RELAY_FAST_PATH=no is set"


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "inherited"])
def test_which_path_is_taken_is_told(tmp_path: Path, fast: bool) -> None:
    """Switched off, bytes go the inherited path: they arrive all the same, and log, doctor and metrics say so."""
    place = tmp_path / "metrics.sock"
    one = Relay(tmp_path, settings=f"workers: 1\nmetrics: {place}\n")
    if not fast:
        one.environ[asyncssh_contract.SWITCH] = "no"
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

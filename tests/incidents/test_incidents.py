"""What has gone wrong elsewhere, one test per incident, named after it: it does not happen here, or cannot."""

import ast
import base64
import importlib.metadata
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import relay as package
from relay.core.audit import hash_chain
from relay.store.reader import AuditReader
from relay.store.writer import FILE
from tests.relay_process import Relay, echo_server, make_key, relay, wait_for
from tests.serve import hostile
from tests.serve.hostile import Client, Gone, load_key, public_blob, rss, string, uint32

pytestmark = [pytest.mark.xdist_group("incidents"), pytest.mark.other_python]

MIB = 1 << 20
SOURCES = Path(package.__file__).parent


def logged_in(one: Relay, person: str = "alice") -> Client:
    """That person's connection."""
    return Client(one.port).login(person, load_key(one.directory / person))


def calls(*folders: str) -> Iterator[tuple[str, str]]:
    """Every function called anywhere in these folders of the package: file, and the name's last part."""
    for folder in folders:
        for path in sorted((SOURCES / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call):
                    name = node.func
                    last = (
                        name.attr if isinstance(name, ast.Attribute) else name.id if isinstance(name, ast.Name) else ""
                    )
                    yield path.relative_to(SOURCES).as_posix(), last


# ---- in front of the log-in


def test_libssh_cve_2018_10933(one: Relay) -> None:
    """A client that sends USERAUTH_SUCCESS is not logged in; nor is it with asyncssh's CVE-2018-7749."""
    before = len(one.rows("login.succeeded"))
    with Client(one.port) as client:
        client.service()
        client.send(bytes([hostile.USERAUTH_SUCCESS]), client.ask("remote", 2000)[1])
        assert client.gone() == "protocol error"
    assert len(one.rows("login.succeeded")) == before


def test_asyncssh_cve_2018_7749(one: Relay) -> None:
    """Opening a channel without authenticating ends the connection, with and without a first "none" attempt."""
    for method in ("", "none"):
        with Client(one.port) as client:
            client.service()
            if method:
                client.send(client.request("alice", method))
                client.expect(hostile.USERAUTH_FAILURE)
            client.send(client.ask("remote", 2000)[1])
            assert client.gone() == "protocol error"


def test_erlang_otp_cve_2025_32433(one: Relay) -> None:
    """Channel open and exec before log-in run nothing; and no code of a worker could start a program."""
    with Client(one.port) as client:
        session = bytes([hostile.OPEN]) + string("session") + uint32(0, 1 << 20, 1 << 15)
        execute = bytes([hostile.CHANNEL_REQUEST]) + uint32(0) + string("exec") + b"\1" + string("touch /tmp/x")
        client.send(session, execute)
        assert client.gone() == "protocol error"
    starters = {
        "Popen", "run_command", "system", "popen", "fork", "forkpty", "posix_spawn", "posix_spawnp", "spawnv", "execv",
        "execve", "execvp", "execl", "check_output", "check_call", "create_subprocess_exec", "create_subprocess_shell",
        "create_process", "eval", "exec", "compile_command",
    }  # fmt: skip
    found = {place for place, name in calls("serve", "core", "net") if name in starters}
    assert found == {
        "serve/supervisor/policy/running_config.py",  # the supervisor: the check
        "serve/supervisor/worker_pool.py",  # the supervisor: the workers
        "serve/supervisor/audit/retention.py",  # the supervisor: old rows into archives
        "net/system_commands.py",  # `relayctl net`; a contract keeps it from serving processes
    }


def test_asyncssh_cve_2023_46445_46446() -> None:
    """Rogue extension negotiation and session: fixed in 2.14.1; exactly one version from 2.24.1 on is required."""
    installed = tuple(map(int, importlib.metadata.version("asyncssh").split(".")))
    assert installed >= (2, 24, 1)
    required = [line for line in importlib.metadata.requires("ssh-jump-relay") or [] if line.startswith("asyncssh")]
    assert required == [f"asyncssh=={importlib.metadata.version('asyncssh')}"]


def test_terrapin_cve_2023_48795(one: Relay) -> None:
    """Strict key exchange is offered and kept to: a packet slipped in before NEWKEYS ends the connection."""
    with Client(one.port, exchange=False) as client:
        client.hello()
        assert b"kex-strict-s-v00@openssh.com" in client.expect(hostile.KEXINIT)
        client.send(client.kexinit(), bytes([hostile.IGNORE]) + string(""))
        assert client.gone() == "protocol error"


def test_x_crypto_cve_2024_45337(one: Relay) -> None:
    """Offering a key one does not hold, before or after proving one's own, makes nobody another person."""
    one.person("victim")
    one.ctl("reload")
    victim = public_blob(load_key(one.directory / "victim"))
    with Client(one.port) as client:
        client.service()
        assert client.offer("victim", victim)
        client.send(client.signed("victim", load_key(one.key)))
        client.expect(hostile.USERAUTH_SUCCESS)
        client.refused("nowhere", 22)
    assert one.wait_row("login.succeeded", login="victim")["person"] == "alice"


def test_warpgate_ghsa_3cjp_w4cp_m9c8(one: Relay) -> None:
    """A key that was accepted as an offer is no log-in for a later method, name, or foreign signature."""
    blob = public_blob(load_key(one.key))
    if not (one.directory / "stranger").exists():
        make_key(one.directory / "stranger")
    with Client(one.port) as client:
        client.service()
        for attempt in (
            client.request("alice", "none"),
            client.request("alice", "password", b"\0" + string("")),
            client.signed("alice", load_key(one.directory / "stranger")),
        ):
            assert client.offer("alice", blob)
            client.send(attempt)
            assert client.expect(hostile.USERAUTH_SUCCESS, hostile.USERAUTH_FAILURE)[0] == hostile.USERAUTH_FAILURE


@pytest.mark.parametrize("exchanged", [False, True])
def test_asyncssh_until_2_24_0_and_russh_ghsa_vgvv_x7xg_6cqg(one: Relay, exchanged: bool) -> None:
    """A header that announces 2 GiB before log-in is refused when it is read; nothing is set aside for it."""
    before = rss(one)
    with Client(one.port, exchange=exchanged) as client:
        if not exchanged:
            client.hello()
        with pytest.raises(Gone):
            client.send_raw(b"\x7f\xff\xff\xf0" + bytes(MIB))
            while True:
                client.send_raw(bytes(MIB))
    assert rss(one) - before < 8 * MIB


def test_regresshion_cve_2024_6387(tmp_path: Path) -> None:
    """The end of the grace time only closes: no log-in, no row of its own, no traceback, the worker lives."""
    with relay(tmp_path, settings="workers: 1\nlimits: {login_grace: 1s}\n") as one:
        workers = one.worker_pids()
        clients = [Client(one.port) for _ in range(20)]
        for client in clients:
            client.service()
            client.send(client.request("alice", "publickey", b"\1" + string("ssh-ed25519"))[:-3])
        for client in clients:
            client.gone()
            client.sock.close()
        assert one.worker_pids() == workers
        assert not one.rows("login.succeeded")
        assert "Traceback" not in one.log()


def test_openssh_cve_2025_26465(one: Relay) -> None:
    """An error while a key is checked is a refusal: broken keys, points off the curve, algorithms that do not fit."""
    ecdsa = base64.b64decode((Path(__file__).parents[1] / "fixtures/keys/ecdsa-256.pub").read_text().split()[1])
    with Client(one.port) as client:
        client.service()
        for blob, algorithm in (
            (b"", "ssh-ed25519"),
            (string("ssh-ed25519"), "ssh-ed25519"),
            (string("ssh-ed25519") + string(bytes(31)), "ssh-ed25519"),
            (ecdsa[:-1] + bytes([ecdsa[-1] ^ 1]), "ecdsa-sha2-nistp256"),
            (string("ssh-rsa") + string(b"") + string(b""), "rsa-sha2-256"),
            (public_blob(load_key(one.key)), "made-up"),
        ):
            rest = b"\1" + string(algorithm) + string(blob) + string(string(algorithm) + string(bytes(64)))
            try:
                client.send(client.request("alice", "publickey", rest))
                answer = client.expect(hostile.USERAUTH_SUCCESS, hostile.USERAUTH_FAILURE)
                assert answer[0] == hostile.USERAUTH_FAILURE
            except Gone as end:
                raise AssertionError(f"{blob!r} ended the connection: {end}") from None


def test_openssh_cve_2025_26466(one: Relay) -> None:
    """PINGs during the key exchange are neither answered from a growing queue nor endless."""
    before = rss(one)
    for exchanged in (False, True):
        with Client(one.port, exchange=exchanged) as client:
            if not exchanged:
                client.hello()
                client.send(client.kexinit())
            with pytest.raises(Gone):
                client.flood(bytes([192]) + string(b"x" * 16), 100_000)
                client.gone()
                raise Gone("")
    assert rss(one) - before < 4 * MIB


# ---- what may be asked for


NO_FORWARDS = (
    *("session", "x11", "auth-agent@openssh.com", "forwarded-tcpip", "direct-streamlocal@openssh.com"),
    *("forwarded-streamlocal@openssh.com", "tun@openssh.com", "sftp", "direct-udpip", "made-up@example.com"),
)


def test_openssh_cve_2025_32728(one: Relay, echo: int) -> None:
    """`restrict` and `no-port-forwarding` mean that: such a key opens nothing, of any kind."""
    for name, options in (("strict", "restrict"), ("noport", "no-port-forwarding"), ("caps", "No-Port-Forwarding")):
        one.person(name, options)
    one.policy(
        "rules:\n  - {name: all may, allow: [strict, noport, caps], to: [remote], ports: ['1024-65535']}\n", "more"
    )
    one.ctl("reload")
    for name in ("strict", "noport", "caps"):
        with logged_in(one, name) as client:
            code, text = client.refused("remote", echo)
            assert code == hostile.PROHIBITED
            assert "may not open forwards" in text
            for kind in NO_FORWARDS:
                assert client.refused("remote", echo, kind=kind)[0] in (hostile.PROHIBITED, hostile.UNKNOWN_TYPE)


def test_openssh_cve_2026_73283(one: Relay, echo: int) -> None:
    """Tunnels and all other channel types are refused by an allow-list of one, for every key; forwards live on."""
    with logged_in(one) as client:
        for kind in NO_FORWARDS:
            assert client.refused("", 0, kind=kind)[0] in (hostile.PROHIBITED, hostile.UNKNOWN_TYPE)
        client.echo("remote", echo)


def test_teleport_ghsa_c9v7_wmwj_vf6x(one: Relay, echo: int) -> None:
    """A proxy that accepts SFTP: here there is no session to ask a subsystem of, and a forward has none."""
    with logged_in(one) as client:
        assert client.refused("", 0, kind="session")[0] == hostile.PROHIBITED
        number, channel = client.open("remote", echo)
        client.send(bytes([hostile.CHANNEL_REQUEST]) + uint32(channel) + string("subsystem") + b"\1" + string("sftp"))
        assert client.expect(hostile.CHANNEL_SUCCESS, hostile.CHANNEL_FAILURE)[0] == hostile.CHANNEL_FAILURE
        client.write(channel, b"alive")
        assert client.read(number, 5) == b"alive"


@pytest.mark.parametrize("policy", ["", "hosts: {}\n", "zones: {here: {networks: [127.0.0.0/8], interface: lo}}\n"])
def test_metr_hawk_1090(tmp_path: Path, policy: str) -> None:
    """Nothing configured means nothing reachable: a person without a rule gets no TCP to anywhere."""
    with relay(tmp_path, policy, "workers: 1\n") as one, echo_server() as port, logged_in(one) as client:
        for host in ("127.0.0.2", "remote", "localhost", "127.0.0.1", "::1", "0.0.0.0"):
            assert client.refused(host, port)[0] == hostile.PROHIBITED
        assert not one.rows("forward.opened")


@pytest.mark.parametrize("name", ["root,alice", "", "*", "alice\n", "everyone"])
def test_openssh_cve_2026_35414(one: Relay, name: str) -> None:
    """A person is one exact name: commas, blanks, wildcards, control characters and the empty name are refused."""
    line = make_key(one.directory / "comma")
    before = sorted(path.name for path in (one.site / "keys").iterdir())
    assert "Traceback" not in one.ctl("add-key", "--", name, "-", stdin=line + "\n", status=1)
    assert sorted(path.name for path in (one.site / "keys").iterdir()) == before


def test_vault_cve_2024_7594(one: Relay) -> None:
    """No principals does not mean anyone: a rule for nobody lets nobody, and a file without a name is no person."""
    one.policy("rules:\n  - {name: for nobody, allow: [], to: [remote], ports: [22]}\n", "empty")
    text = one.ctl("reload", status=1)
    (one.site / "policies" / "empty.yaml").unlink()
    assert "policies/empty.yaml:2" in text
    line = make_key(one.directory / "noname")
    for name in (".pub", "a,b.pub", "a b.pub"):
        (one.site / "keys" / name).write_text(line + "\n")
    one.ctl("reload", status=None)
    with Client(one.port) as client:
        client.service()
        assert not client.offer("", public_blob(load_key(one.directory / "noname")))
    for name in (".pub", "a,b.pub", "a b.pub"):
        (one.site / "keys" / name).unlink()
    one.ctl("reload")


def test_teleport_cve_2025_49825(one: Relay) -> None:
    """A certificate around a listed key is not that key: it is unknown, offered or signed."""
    kind = "ssh-ed25519-cert-v01@openssh.com"
    key = load_key(one.key)
    public = public_blob(key)
    fields = (kind, bytes(32), public[-32:])
    body = b"".join(map(string, fields)) + bytes(8) + uint32(1) + string("alice") + string(string("alice"))
    body += bytes(8) + b"\xff" * 8 + string("") * 3 + string(public)
    blob = body + string(string("ssh-ed25519") + string(key.sign(body)))  # type: ignore[call-arg]  # Ed25519
    with Client(one.port) as client:
        client.service()
        assert not client.offer("alice", blob, kind)
        rest = b"\1" + string(kind) + string(blob)
        signature = key.sign(string(client.session) + client.request("alice", "publickey", rest))  # type: ignore[call-arg]  # Ed25519
        client.send(client.request("alice", "publickey", rest + string(string("ssh-ed25519") + string(signature))))
        assert client.expect(hostile.USERAUTH_SUCCESS, hostile.USERAUTH_FAILURE)[0] == hostile.USERAUTH_FAILURE


def test_teleport_65089(one: Relay) -> None:
    """A PROXY header is believed from nobody, because there is no code for one yet: it is not SSH and ends there."""
    for header in (b"PROXY TCP4 203.0.113.7 127.0.0.1 4711 22\r\n", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12)):
        with Client(one.port, exchange=False) as client:
            client.send_raw(header + b"SSH-2.0-x\r\n")
            with pytest.raises(Gone):
                while True:
                    client._need(len(client._in) + 1)
    with logged_in(one) as client:
        client.refused("nowhere", 22)
    one.wait_row("login.succeeded")
    assert {row["client"] for row in one.rows("login.succeeded")} == {"127.0.0.1"}


# ---- the way of a forward


def test_warpgate_ghsa_78rf_vg74_7cr8(one: Relay, echo: int) -> None:
    """Nothing per client is awaited while accepting: beside forty that say nothing, log-in is as quick as ever."""
    silent = [socket.create_connection(("127.0.0.1", one.port)) for _ in range(40)]
    try:
        began = time.monotonic()
        with logged_in(one) as client:
            client.echo("remote", echo)
        assert time.monotonic() - began < 2
    finally:
        for sock in silent:
            sock.close()


def test_warpgate_ghsa_xm63_rjwf_r3g8(one: Relay, echo: int) -> None:
    """The opening row can be read at the moment the client hears of its channel, every time."""
    with logged_in(one) as client:
        for _ in range(20):
            before = len(one.rows("forward.opened"))
            client.open("remote", echo)
            assert len(one.rows("forward.opened")) == before + 1


def test_warpgate_ghsa_qw79_rh95_853p(one: Relay) -> None:
    """A target that sends without end, or resets, is as bounded as a client is."""
    over = threading.Event()
    with socket.create_server(("127.0.0.2", 0)) as listener, logged_in(one) as client:
        before = rss(one)
        client.open("remote", listener.getsockname()[1], window=0xFFFFFFFF)
        sock, _ = listener.accept()
        sock.settimeout(0.5)
        sent = 0
        with pytest.raises(TimeoutError):
            while sent < 200 * MIB:
                sent += sock.send(bytes(1 << 17))
        assert rss(one) - before < 8 * MIB
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
        over.set()
        with logged_in(one) as other:
            other.refused("nowhere", 22)


def test_warpgate_129(tmp_path: Path) -> None:
    """What is missing refuses: no person, no key file, no policy, no settings, and nobody gets in."""
    make_key(tmp_path / "hopeful")
    one = Relay(tmp_path, "", "workers: 1\n")
    try:
        for path in (one.site / "keys").iterdir():
            path.unlink()
        (one.site / "policies" / "main.yaml").unlink()
        one.start()
        with Client(one.port) as client:
            client.service()
            assert not client.offer("hopeful", public_blob(load_key(tmp_path / "hopeful")))
            for method in ("none", "password", "keyboard-interactive", "hostbased"):
                client.send(client.request("hopeful", method, string("") * 2))
                assert client.receive()[0] in (hostile.USERAUTH_FAILURE, hostile.INFO_REQUEST)
    finally:
        one.end()


def test_warpgate_2065(one: Relay) -> None:
    """Early data is kept: what the target says before the confirmation and what the client sends right after it."""
    banner = os.urandom(50_000)
    with echo_server(greeting=banner) as port, logged_in(one) as client:
        for turn in range(10):
            number, packet = client.ask("remote", port)
            client.send(packet)
            answer = client.expect(hostile.OPEN_CONFIRMATION)
            client.write(int.from_bytes(answer[5:9], "big"), b"%d early" % turn)
            assert client.read(number, len(banner) + 7) == banner + b"%d early" % turn


def test_the_bastion_cve_2023_45140() -> None:
    """One choke point: the law is asked in one place, and one place dials; asyncssh's own ways are not there."""
    found = list(calls("serve"))
    assert {place for place, name in found if name == "dial"} == {"serve/worker/forward/forward.py"}
    assert {place for place, name in found if name in ("sock_connect", "create_connection", "open_connection")} == {
        "serve/worker/forward/dial.py",
        "serve/worker/process.py",  # to the supervisor's socket
    }
    from relay.serve.worker.authentication import Authentication
    from relay.serve.worker.session import Session

    inherited = {"connection_requested", "server_requested", "session_requested", "unix_connection_requested"}
    for hooks in (Authentication, Session):
        assert not inherited & set(vars(hooks)), "nothing but Connection opens channels"


def test_the_bastion_cve_2025_59339(one: Relay, echo: int) -> None:
    """Recordings were silently unsigned there: here each row that is there carries its hash, and they fit."""
    with logged_in(one) as client:
        client.echo("remote", echo)
    rows = list(AuditReader(one.site / "state" / FILE).after(0, 100_000))
    assert rows
    prev = hash_chain.GENESIS
    for seq, row in enumerate(rows, 1):
        assert row.seq == seq
        assert row.prev == prev
        prev = row.hash
        assert prev == hash_chain.digest(row.prev, hash_chain.canonical(row.node, row.seq, row.event, row.schema))


# ---- many at once


def test_containarium_933(one: Relay, echo: int) -> None:
    """A bad job in an office locks nobody else out: after hundreds of failures from one address alice gets in."""
    for _ in range(30):
        with Client(one.port) as bad:
            bad.service()
            with pytest.raises(Gone, match="IdentitiesOnly"):
                while True:
                    assert not bad.offer("deploy", string("ssh-ed25519") + string(os.urandom(32)))
        with logged_in(one) as client:
            client.refused("nowhere", 22)
    with logged_in(one) as client:
        client.echo("remote", echo)


def test_asyncssh_765_ansible_17349(one: Relay, echo: int) -> None:
    """Two hundred forwards asked for at once, over one connection and over twenty: none is lost."""
    with logged_in(one) as client:
        client.send(*(client.ask("remote", echo)[1] for _ in range(200)))
        for _ in range(200):
            assert client.expect(hostile.OPEN_CONFIRMATION, hostile.OPEN_FAILURE)[0] == hostile.OPEN_CONFIRMATION
    wait_for(lambda: len(one.rows("forward.closed")) == len(one.rows("forward.opened")), "they are not closed")
    clients = [logged_in(one) for _ in range(20)]
    for client in clients:
        client.send(*(client.ask("remote", echo)[1] for _ in range(10)))
    for client in clients:
        for _ in range(10):
            assert client.expect(hostile.OPEN_CONFIRMATION, hostile.OPEN_FAILURE)[0] == hostile.OPEN_CONFIRMATION
        client.sock.close()


def test_zerotier_1122_1737_2002(tmp_path: Path) -> None:
    """Managed routes vanish: a zone whose interface is not there is refused, and no packet takes another way.

    With real interfaces, routes and gateways that come and go this is shown in tests/net, in network namespaces.
    """
    policy = (
        "zones:\n  far: {networks: [192.0.2.0/24], interface: nonesuch0}\n"
        "hosts:\n  remote: {address: 192.0.2.7, zone: far}\n"
        "rules:\n  - {name: r, allow: [alice], to: [remote], ports: [22]}\n"
    )
    with relay(tmp_path, policy, "workers: 1\n") as one, logged_in(one) as client:
        code, text = client.refused("remote", 22)
        assert code == hostile.CONNECT_FAILED
        assert "the network behind this relay is down (id " in text
        assert "nonesuch0" in one.wait_row("forward.closed", reason="overlay-down")["detail"]

"""Messages of an unauthenticated client: none costs much, and none opens anything."""

import contextlib
import os
import socket
from pathlib import Path

import pytest

from tests.relay_process import Relay, relay, wait_for
from tests.serve import hostile
from tests.serve.hostile import Client, Gone, load_key, rss, string, uint32

pytestmark = pytest.mark.xdist_group("serve-before-login")

MIB = 1 << 20


def status(one: Relay) -> dict[str, object]:
    """The output of `relayctl status`."""
    from relay.serve.control_client import call

    return call(one.site / "state", {"do": "status"})


def logins(one: Relay) -> int:
    """How many log-ins are on record."""
    return len(one.rows("login.succeeded"))


@pytest.mark.parametrize("moment", ["before the service", "before a request", "after an offer"])
def test_userauth_success_from_a_client_logs_nobody_in(one: Relay, moment: str) -> None:
    """CVE-2018-10933: USERAUTH_SUCCESS from a client ends the connection at any time."""
    before = logins(one)
    with Client(one.port) as client:
        if moment != "before the service":
            client.service()
        if moment == "after an offer":
            assert client.offer("alice", hostile.public_blob(load_key(one.key)))
        client.send(bytes([hostile.USERAUTH_SUCCESS]))
        client.send(client.ask("remote", 2000)[1])
        assert client.gone() == "protocol error"
    assert logins(one) == before


@pytest.mark.parametrize("kind", [80, 81, 82, *range(90, 101), 101, 127, 128, 192, 255])
def test_messages_for_after_log_in_end_the_connection_before_it(one: Relay, kind: int) -> None:
    """CVE-2025-32433: messages for after the log-in are refused before it."""
    with Client(one.port) as client:
        client.service()
        body = string("exec") + b"\1" + string("id") + bytes(64)
        client.send(bytes([kind]) + uint32(0) + body)
        client.sock.shutdown(socket.SHUT_WR)
        assert client.gone() == "protocol error"


@pytest.mark.parametrize("exchanged", [False, True])
def test_a_header_of_two_gib_costs_nothing(one: Relay, exchanged: bool) -> None:
    """An impossible packet length ends the connection at once; memory does not grow."""
    before = rss(one)
    for _ in range(10):
        with Client(one.port, exchange=exchanged) as client:
            if not exchanged:
                client.hello()
            with pytest.raises(Gone):
                client.send_raw(b"\x7f\xff\xff\xff" + bytes(28))
                for _ in range(64):
                    client.send_raw(bytes(MIB))
                client.gone()
                raise Gone("")
    assert rss(one) - before < 16 * MIB


@pytest.mark.parametrize(
    "payload",
    [
        bytes([hostile.IGNORE]) + string(b"x"),
        bytes([hostile.DEBUG]) + b"\1" + string(b"x") + string(b""),
        bytes([hostile.UNIMPLEMENTED]) + uint32(1),
        bytes([hostile.EXT_INFO]) + uint32(0),
        bytes([199]),
        bytes([hostile.SERVICE_REQUEST]) + string("ssh-userauth"),
    ],
    ids=["ignore", "debug", "unimplemented", "ext-info", "unknown", "service"],
)
def test_a_flood_before_log_in_is_cut_off(one: Relay, payload: bytes) -> None:
    """CVE-2025-26466: small packets before log-in are bounded in number, and none is kept."""
    before = rss(one)
    with Client(one.port) as client:
        client.service()
        with pytest.raises(Gone):
            client.flood(payload, 100_000)
            client.gone()
            raise Gone("")
    assert rss(one) - before < 4 * MIB


def test_many_bytes_before_log_in_are_cut_off(one: Relay) -> None:
    """A megabyte is enough for a hundred keys; more ends the connection, also in large packets."""
    with Client(one.port) as client:
        client.service()
        with pytest.raises(Gone):
            client.flood(bytes([hostile.IGNORE]) + string(bytes(30_000)), 100, batch=1)
            client.gone()
            raise Gone("")


def test_a_packet_that_is_never_whole_is_not_waited_for_at_any_length(one: Relay) -> None:
    """A packet of 200 kB is not buffered: five hundred clients may each keep one incomplete."""
    with Client(one.port) as client:
        client.service()
        with pytest.raises(Gone):
            client.send_raw(uint32(200_000) + bytes(150_000))
            client.gone()
            raise Gone("")
    with Client(one.port) as client:
        client.service()
        client.send(bytes([hostile.IGNORE]) + string(bytes(60_000)))
        assert not client.offer("alice", string("ssh-ed25519") + string(os.urandom(32)))


def test_input_is_not_gathered_while_a_request_is_worked_on(one: Relay) -> None:
    """100 requests in one write are handled one by one, and each is answered."""
    with Client(one.port) as client:
        client.service()
        client.send(*(client.request("nobody", "none") for _ in range(100)))
        for _ in range(100):
            client.expect(hostile.USERAUTH_FAILURE)


def test_unknown_keys_are_cut_at_twenty(one: Relay) -> None:
    """After twenty unknown keys the relay disconnects, and says what to do."""
    with Client(one.port) as client:
        client.service()
        heard = 0
        with pytest.raises(Gone, match="IdentitiesOnly"):
            for _ in range(1000):
                blob = string("ssh-ed25519") + string(os.urandom(32))
                assert not client.offer("alice", blob)
                heard += 1
        assert heard in (20, 21)  # the answer to the twenty-first may come before the end


def test_the_same_unknown_key_again_and_again_is_cut_too(one: Relay) -> None:
    """Offers are also counted in all, so repeating one key is limited too."""
    blob = string("ssh-ed25519") + string(os.urandom(32))
    with Client(one.port) as client:
        client.service()
        heard = 0
        with pytest.raises(Gone):
            for _ in range(1000):
                client.offer("alice", blob)
                heard += 1
        assert heard <= 101


def test_a_second_key_exchange_before_log_in_is_refused(one: Relay) -> None:
    """Nothing before log-in needs new keys; each exchange costs the relay time."""
    with Client(one.port) as client:
        client.service()
        client.send(client.kexinit())
        assert client.gone() == "protocol error"


def test_only_keys_are_offered_and_other_methods_refused(one: Relay) -> None:
    """none, password, hostbased, gssapi and made-up methods are refused, and only publickey is named."""
    with Client(one.port) as client:
        client.service()
        for method, rest in (
            ("none", b""),
            ("password", b"\0" + string("secret")),
            ("password", b"\1" + string("old") + string("new")),
            ("keyboard-interactive", string("") + string("")),
            ("hostbased", string("ssh-ed25519") + string("x") + string("h") + string("u") + string("s")),
            ("gssapi-with-mic", uint32(0)),
            ("\N{SNOWMAN}", b""),
            ("x" * 9000, b""),
        ):
            client.send(client.request("alice", method, rest))
            answer = client.expect(hostile.USERAUTH_FAILURE, hostile.USERAUTH_SUCCESS)
            assert answer[0] == hostile.USERAUTH_FAILURE
            assert hostile.strings(answer[1:])[0] == b"publickey"


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: relay\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
        b"SSH-1.5-old\r\n",
        b"SSH-2.0-\xff\xfe\xfd\r\n",
        b"SSH-2.0-" + b"x" * 5000 + b"\r\n",
        b"SSH-2.0-nul\0nul\r\n" + bytes(64),
        b"SSH-2.0-x\r\n" + uint32(0) + bytes(64),
        b"SSH-2.0-x\r\n" + uint32(12) + bytes([255]) + bytes(64),
        b"SSH-2.0-x\r\n" + uint32(12) + bytes([11]) + bytes(64),
        b"SSH-2.0-x\r\n" + uint32(12) + bytes([10, 20]) + bytes(64),
        b"\n" * 10_000,
        b"x" * 100_000,
    ],
    ids=range(12),
)
def test_what_is_not_ssh_ends_quietly(one: Relay, data: bytes) -> None:
    """Scanners and broken packets are disconnected, and leave no traceback in the log."""
    with Client(one.port, exchange=False) as client, pytest.raises(Gone):
        client.send_raw(data)
        with contextlib.suppress(OSError):  # the relay was quicker
            client.sock.shutdown(socket.SHUT_WR)
        while True:
            client._need(len(client._in) + 1)
    assert "Traceback" not in one.log()


def test_a_client_that_never_logs_in_is_ended_by_the_grace_time(tmp_path: Path) -> None:
    """CVE-2024-6387: the grace time ends silent and busy clients alike, and only closes the connection."""
    with relay(tmp_path, settings="workers: 1\nlimits: {login_grace: 1s}\n") as one:
        silent = socket.create_connection(("127.0.0.1", one.port))
        with silent, Client(one.port) as short, Client(one.port) as waiting, Client(one.port) as offering:
            waiting.service()
            offering.service()
            offering.offer("alice", hostile.public_blob(load_key(one.key)))
            for client in (short, waiting, offering):  # the first has sent no more than its new keys: nobody is woken
                client.gone()
            silent.settimeout(10)
            while silent.recv(1000):
                pass
        wait_for(lambda: status(one)["before_login"] == 0, "places before log-in are not given back")
        assert "Traceback" not in one.log()


def test_places_before_log_in_are_bounded_and_given_back(one: Relay) -> None:
    """One source has fifty unauthenticated connections; the next waits, and another source's log-in does not."""
    wait_for(lambda: status(one)["before_login"] == 0, "others are still at the door")
    waiting = [socket.create_connection(("127.0.0.1", one.port), timeout=10) for _ in range(50)]
    try:
        assert all(sock.recv(8) for sock in waiting)
        with socket.create_connection(("127.0.0.1", one.port), timeout=10) as late:
            with Client(one.port, source="127.0.0.3") as neighbour:
                neighbour.login("alice", load_key(one.key))
            waiting.pop().close()
            assert late.recv(8) == b"SSH-2.0-"
    finally:
        for sock in waiting:
            sock.close()
    wait_for(lambda: status(one)["before_login"] == 0, "places before log-in are not given back")
    Client(one.port).sock.close()

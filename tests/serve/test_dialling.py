"""Between asking and being confirmed: clients that vanish, targets that misbehave, and a law that changes meanwhile."""

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.relay_process import POLICY, Relay, echo_server, wait_for
from tests.serve import hostile
from tests.serve.hostile import Client, Gone, descriptors, load_key, uint32

pytestmark = pytest.mark.xdist_group("serve-dialling")


def logged_in(one: Relay, person: str = "alice") -> Client:
    """That person's connection."""
    return Client(one.port).login(person, load_key(one.directory / person))


@contextmanager
def silent_target() -> Iterator[tuple[int, socket.socket]]:
    """A port at which nobody answers: a listener whose queue is full; the listener, to empty it later."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.2", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = []
        while True:
            filler = socket.socket()
            filler.settimeout(0.2)
            fillers.append(filler)
            try:
                filler.connect(("127.0.0.2", port))
            except TimeoutError:
                break
        try:
            yield port, listener
        finally:
            for filler in fillers:
                filler.close()


def answer_from_now_on(listener: socket.socket) -> None:
    """Accept whatever comes, so that a dial's repeated SYN (after 1 s, then 3 s) is answered."""

    def accept() -> None:
        with ExitStack() as taken:
            while True:
                try:
                    taken.enter_context(listener.accept()[0])
                except TimeoutError:
                    continue
                except OSError:
                    return  # the test is over and the listener closed

    listener.settimeout(0.05)
    threading.Thread(target=accept, daemon=True).start()


def asked(one: Relay, port: int, times: int = 1) -> None:
    """Wait until that many opening rows for that port are there: the dials are under way."""
    wait_for(
        lambda: sum(row["port"] == port for row in one.rows("forward.opened")) >= times, "the dials are not on record"
    )


def test_a_client_that_vanishes_during_the_dial_leaves_nothing_behind(one: Relay, echo: int) -> None:
    """No descriptor stays and each opening row gets its closing row, whether the client says goodbye or not."""
    with logged_in(one) as client:
        client.echo("remote", echo)
    one.wait_row("connection.closed")
    wait_for(lambda: one.rows("forward.closed"), "no closing row")
    before = descriptors(one)
    with silent_target() as (port, _):
        for turn, rough in enumerate((False, True, False, True)):
            with logged_in(one) as client:
                for _ in range(10):
                    client.send(client.ask("remote", port)[1])
                asked(one, port, 10 * (turn + 1))
                if rough:
                    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wait_for(lambda: descriptors(one) <= before, "a descriptor stays open")
        wait_for(
            lambda: len(one.rows("forward.opened")) == len(one.rows("forward.closed")), "an opening has no closing row"
        )
        rows = [row for row in one.rows("forward.closed") if row.get("port") == port]
        assert {row["reason"] for row in rows} <= {"connection-lost", "client-gone"}
        assert len(rows) == 40


def test_a_channel_closed_by_the_client_before_its_answer_leaves_nothing_behind(one: Relay) -> None:
    """CLOSE for a number that is not confirmed yet is a broken client; its dial ends with it."""
    before = descriptors(one)
    with silent_target() as (port, _), logged_in(one) as client:
        client.send(client.ask("remote", port)[1])
        asked(one, port)
        client.send(bytes([hostile.CLOSE]) + uint32(0))
        client.gone()
        one.wait_row("forward.closed", port=port)
        wait_for(lambda: descriptors(one) <= before, "a descriptor stays open")


def test_a_refused_dial_says_so_and_is_on_record(one: Relay) -> None:
    """Nothing listens: the person hears that much, the row has the reason, the text has no address."""
    with socket.create_server(("127.0.0.2", 0)) as gone:
        port = gone.getsockname()[1]
    with logged_in(one) as client:
        code, text = client.refused("remote", port)
        assert code == hostile.CONNECT_FAILED
        assert "nothing listens" in text
        assert "127.0.0.2" not in text
    assert one.wait_row("forward.closed", port=port)["reason"] == "target-refused"


def test_what_the_target_says_first_is_not_lost(one: Relay) -> None:
    """warpgate #2065: a banner sent before the confirmation arrives, whole and in order, in five forwards at once."""
    banner = b"SSH-2.0-target\r\n" + bytes(range(256)) * 100
    with echo_server(greeting=banner) as port, logged_in(one) as client:
        client.send(*(client.ask("remote", port)[1] for _ in range(5)))
        got = dict.fromkeys(range(5), b"")
        while any(len(part) < len(banner) for part in got.values()):
            packet = client.expect(hostile.DATA)
            got[int.from_bytes(packet[1:5], "big")] += hostile.strings(packet[5:])[0]
        assert set(got.values()) == {banner}


def test_what_the_client_sends_at_once_is_not_lost(one: Relay, echo: int) -> None:
    """Data that follows the confirmation in the same breath, with EOF and CLOSE behind it, reaches the target."""
    got = bytearray()
    with socket.create_server(("127.0.0.2", 0)) as listener:

        def take() -> None:
            sock, _ = listener.accept()
            with sock:
                while data := sock.recv(1 << 16):
                    got.extend(data)

        thread = threading.Thread(target=take)
        thread.start()
        with logged_in(one) as client:
            _, channel = client.open("remote", listener.getsockname()[1])
            client.write(channel, b"x" * 1_000_000)
            client.send(bytes([hostile.EOF]) + uint32(channel))
            thread.join(20)
        assert len(got) == 1_000_000


def test_data_before_the_confirmation_is_the_clients_fault(one: Relay) -> None:
    """A number cannot be known before the confirmation: guessing it ends this connection, and only this one."""
    with silent_target() as (port, _), logged_in(one) as client:
        client.send(client.ask("remote", port)[1])
        client.write(0, b"too early")
        assert client.gone() == "protocol error"


def test_a_target_that_resets_half_way_closes_its_channel_alone(one: Relay, echo: int) -> None:
    """The forward ends with the reason on record, what had come before arrives, the others go on."""
    with socket.create_server(("127.0.0.2", 0)) as listener, logged_in(one) as client:
        port = listener.getsockname()[1]
        number, channel = client.open("remote", port)
        sock, _ = listener.accept()
        client.write(channel, b"hello")
        assert sock.recv(5) == b"hello"
        sock.sendall(b"half of i")
        assert client.read(number, 9) == b"half of i"
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
        closed = client.expect(hostile.CLOSE)
        assert int.from_bytes(closed[1:5], "big") == number
        client.send(bytes([hostile.CLOSE]) + uint32(channel))
        client.echo("remote", echo)
        row = one.wait_row("forward.closed", port=port)
        assert (row["reason"], row["sent"], row["received"]) == ("target-reset", 5, 9)


def test_a_key_revoked_during_a_dial_opens_nothing(one: Relay) -> None:
    """The law is asked again between the dial and the confirmation; the connection ends as well."""
    one.person("dora")
    one.policy(POLICY.replace("[alice]", "[alice, dora]"))
    one.ctl("reload")
    with silent_target() as (port, _), logged_in(one, "dora") as client:
        client.send(client.ask("remote", port)[1])
        asked(one, port)
        (one.site / "keys" / "dora.pub").unlink()
        with pytest.raises(Gone, match="no longer accepted"):
            while True:
                assert client.receive()[0] != hostile.OPEN_CONFIRMATION
        one.wait_row("forward.closed", port=port, reason="key-unlisted")


@pytest.mark.slow
def test_a_policy_replaced_during_a_dial_counts(one: Relay, echo: int) -> None:
    """What is no longer allowed when the target answers is refused; what still is goes through."""
    one.policy(POLICY)
    one.ctl("reload")
    with silent_target() as (port, _), logged_in(one) as client:
        number, packet = client.ask("remote", port)
        client.send(packet)
        asked(one, port)
        one.policy(POLICY.replace('"1024-65535"', f'"1024-{port - 1}", "{port + 1}-65535"'))
        one.ctl("reload")
        answer = client.answer(number)  # at once, long before the target answers
        assert answer[0] == hostile.OPEN_FAILURE
        assert int.from_bytes(answer[5:9], "big") == hostile.PROHIBITED
        assert b"you may not reach that any more" in answer
        one.wait_row("forward.closed", port=port, reason="no-rule")
        client.echo("remote", echo)
    one.policy(POLICY)
    one.ctl("reload")


@pytest.mark.slow
def test_a_reload_that_changes_nothing_for_a_dial_lets_it_through(one: Relay) -> None:
    """A new policy that still allows it is no reason to refuse what was asked before."""
    with silent_target() as (port, listener), logged_in(one) as client:
        number, packet = client.ask("remote", port)
        client.send(packet)
        asked(one, port)
        one.policy(POLICY + "\n# another version\n")
        one.ctl("reload")
        answer_from_now_on(listener)
        assert client.answer(number)[0] == hostile.OPEN_CONFIRMATION


@pytest.mark.slow
def test_removed_rules_and_keys_end_open_forwards(one: Relay, echo: int) -> None:
    """A removed line or file ends its open forwards within 2 s, a reload those that are no longer allowed."""
    one.person("gert")
    one.policy(POLICY.replace("[alice]", "[alice, gert]"))
    one.ctl("reload")
    with logged_in(one) as alice:
        alice_number, alice_channel = alice.open("remote", echo)
        with logged_in(one, "gert") as gert:
            gert.open("remote", echo)
            one.policy(POLICY)
            one.ctl("reload")
            assert "you may not reach that any more" in gert.gone()
        one.wait_row("forward.closed", person="gert", reason="no-rule")
        one.policy(POLICY.replace("[alice]", "[alice, gert]"))
        one.ctl("reload")
        with logged_in(one, "gert") as gert:
            gert.open("remote", echo)
            began = time.monotonic()
            (one.site / "keys" / "gert.pub").write_text("# gert has left\n")
            assert "no longer accepted" in gert.gone()
            assert time.monotonic() - began < 2.5
        alice.write(alice_channel, b"alive")
        assert alice.read(alice_number, 5) == b"alive"

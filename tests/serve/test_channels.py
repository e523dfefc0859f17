"""What is asked for after log-in: forwards to odd targets, everything that is no forward, and that others live on."""

import pytest

from tests.relay_process import Relay, wait_for
from tests.serve import hostile
from tests.serve.hostile import Client, Gone, load_key, string, uint32

pytestmark = pytest.mark.xdist_group("serve-channels")


def logged_in(one: Relay) -> Client:
    """Alice's connection."""
    return Client(one.port).login("alice", load_key(one.key))


@pytest.mark.parametrize(
    ("host", "port"),
    [
        (b"remote", 0),
        (b"remote", 65536),
        (b"remote", 70000),
        (b"remote", 0xFFFFFFFF),
        (b"", 2000),
        (b"re\0mote", 2000),
        (b"remote\0", 2000),
        (b"remote\n127.0.0.2", 2000),
        (b"\x1b[2Jremote", 2000),
        (b"\xff\xfe", 2000),
        ("\u9060\u7a0b".encode(), 2000),
        (b"a" * 200_000, 2000),
        (b"a" * 256, 2000),
        (b"127.0.0.2%lo", 2000),
        (b"0177.0.0.2", 2000),
        (b"127.2", 2000),
        (b"2130706434", 2000),
        (b"0x7f000002", 2000),
        (b"[127.0.0.2]", 2000),
        (b"remote:22", 2000),
        (b"/etc/passwd", 2000),
        (b"169.254.169.254", 2000),
        (b"0.0.0.0", 2000),
        (b"255.255.255.255", 2000),
        (b"::", 2000),
    ],
    ids=lambda value: value if isinstance(value, int) else repr(value)[:30],
)
def test_an_odd_target_is_refused_and_the_connection_lives_on(one: Relay, echo: int, host: bytes, port: int) -> None:
    """Whatever the host and port are: refused as prohibited, with an id, and the next forward works."""
    with logged_in(one) as client:
        code, text = client.refused(host, port)
        assert code == hostile.PROHIBITED
        assert "(id " in text
        assert text.isprintable()
        client.echo("remote", echo)


@pytest.mark.parametrize("origin", [b"", b"new\nline", b"\0\xff\x1b[2J", b"x" * 200_000])
def test_the_originator_may_say_anything(one: Relay, echo: int, origin: bytes) -> None:
    """The originator is the client's text: it is of no use to anybody and disturbs nothing."""
    with logged_in(one) as client:
        number, packet = client.ask("remote", echo, origin=origin)
        client.send(packet)
        assert client.answer(number)[0] == hostile.OPEN_CONFIRMATION


def test_a_forward_to_the_relay_itself_is_refused(one: Relay) -> None:
    """The relay's own listener is no target, whatever the rules say."""
    with logged_in(one) as client:
        assert client.refused("127.0.0.1", one.port)[0] == hostile.PROHIBITED


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("session", hostile.PROHIBITED),
        ("x11", hostile.PROHIBITED),
        ("auth-agent@openssh.com", hostile.PROHIBITED),
        ("forwarded-tcpip", hostile.PROHIBITED),
        ("direct-streamlocal@openssh.com", hostile.PROHIBITED),
        ("forwarded-streamlocal@openssh.com", hostile.PROHIBITED),
        ("tun@openssh.com", hostile.PROHIBITED),
        ("direct-tcpip ", hostile.UNKNOWN_TYPE),
        ("DIRECT-TCPIP", hostile.UNKNOWN_TYPE),
        ("", hostile.UNKNOWN_TYPE),
        ("made-up@example.com", hostile.UNKNOWN_TYPE),
        ("\u672a\u77e5", hostile.UNKNOWN_TYPE),
        (b"\xff\xfe\0", hostile.UNKNOWN_TYPE),
        ("x" * 30_000, hostile.UNKNOWN_TYPE),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_every_other_channel_type_is_refused(one: Relay, echo: int, kind: str | bytes, code: int) -> None:
    """One channel type: all others, known and unknown, are refused with a reason; an open forward lives on."""
    with logged_in(one) as client:
        number, channel = client.open("remote", echo)
        assert client.refused("remote", 22, kind=kind)[0] == code
        client.write(channel, b"alive")
        assert client.read(number, 5) == b"alive"
        client.echo("remote", echo)


def test_asking_for_a_shell_says_what_this_is(one: Relay) -> None:
    """The refusal of a session says who one is, what may be reached, and how."""
    with logged_in(one) as client:
        _, text = client.refused("", 0, kind="session")
        assert "you are logged in as alice" in text
        assert "remote:1024-" in text
        assert "ssh -J" in text


@pytest.mark.parametrize(
    "name",
    [
        b"tcpip-forward",
        b"cancel-tcpip-forward",
        b"streamlocal-forward@openssh.com",
        b"cancel-streamlocal-forward@openssh.com",
        b"hostkeys-00@openssh.com",
        b"made-up@example.com",
        b"",
        "\u4e2d\u6587".encode(),
        b"\xff\xfe\0\n",
        b"x" * 30_000,
    ],
    ids=lambda value: repr(value)[:30],
)
def test_global_requests_are_refused(one: Relay, echo: int, name: bytes) -> None:
    """No global request is granted but keepalives; with and without a wish for an answer the connection lives on."""
    with logged_in(one) as client:
        for want in (b"\0", b"\1"):
            client.send(bytes([hostile.GLOBAL_REQUEST]) + string(name) + want + string("0.0.0.0") + uint32(0))
        assert client.expect(hostile.REQUEST_SUCCESS, hostile.REQUEST_FAILURE)[0] == hostile.REQUEST_FAILURE
        client.echo("remote", echo)


def test_keepalives_and_no_more_sessions_are_no_events(one: Relay, echo: int) -> None:
    """What every OpenSSH client sends by itself is answered and leaves no row."""
    with logged_in(one) as client:
        client.send(bytes([hostile.GLOBAL_REQUEST]) + string("keepalive@openssh.com") + b"\1")
        assert client.expect(hostile.REQUEST_SUCCESS, hostile.REQUEST_FAILURE)
        client.send(bytes([hostile.GLOBAL_REQUEST]) + string("no-more-sessions@openssh.com") + b"\0")
        client.echo("remote", echo)
        # rows of another test's connection may still come: these two types are nobody's
        kinds = {row["type"] for row in one.rows("request.refused")}
        assert not kinds & {"keepalive@openssh.com", "no-more-sessions@openssh.com"}


@pytest.mark.parametrize(
    "name", ["exec", "shell", "subsystem", "pty-req", "env", "x11-req", "auth-agent-req@openssh.com", "\xff\0", ""]
)
def test_requests_on_a_forward_are_refused_and_the_forward_lives_on(one: Relay, echo: int, name: str) -> None:
    """There is nothing to ask of a forward: a failure is the answer, if one is wanted, and its bytes flow on."""
    with logged_in(one) as client:
        number, channel = client.open("remote", echo)
        body = string(name) + b"%c" + string("id") + bytes(40)
        for want in (0, 1):
            client.send(bytes([hostile.CHANNEL_REQUEST]) + uint32(channel) + body.replace(b"%c", bytes([want])))
        assert client.expect(hostile.CHANNEL_SUCCESS, hostile.CHANNEL_FAILURE)[0] == hostile.CHANNEL_FAILURE
        client.write(channel, b"alive")
        assert client.read(number, 5) == b"alive"


def test_equal_refusals_are_one_row_with_a_count(one: Relay) -> None:
    """A thousand refused requests of one connection are one row at once and one for the rest at its end."""
    with logged_in(one) as client:
        request = bytes([hostile.GLOBAL_REQUEST]) + string("flood@example.com") + b"\1"
        client.send(*[request] * 1000)
        for _ in range(1000):
            client.expect(hostile.REQUEST_FAILURE)
    wait_for(
        lambda: sum(row["count"] for row in one.rows("request.refused") if row["type"] == "flood@example.com") >= 1000,
        "the count does not come",
    )
    counts = [row["count"] for row in one.rows("request.refused") if row["type"] == "flood@example.com"]
    assert len(counts) == 2
    assert sum(counts) == 1000


def test_many_different_refusals_do_not_flood_the_log(one: Relay) -> None:
    """Ten thousand different names are 64 kinds and one for the others: a connection cannot fill the disk."""
    before = len(one.rows("request.refused"))
    with logged_in(one) as client:
        for start in range(0, 10_000, 1000):
            client.send(
                *(
                    bytes([hostile.GLOBAL_REQUEST]) + string(f"name-{number}") + b"\0"
                    for number in range(start, start + 1000)
                )
            )
        client.refused("nowhere", 22)
    wait_for(
        lambda: sum(row["count"] for row in one.rows("request.refused") if row["type"] == "(others)") == 10_000 - 64,
        "the count of the others does not come",
    )
    assert len(one.rows("request.refused")) - before <= 2 * 65


def test_host_keys_are_proven_a_few_times_only(one: Relay, echo: int) -> None:
    """hostkeys-prove costs a signature each: the real thing works, a flood is refused, the connection lives on."""
    with logged_in(one) as client:
        request = bytes([hostile.GLOBAL_REQUEST]) + string("hostkeys-prove-00@openssh.com") + b"\1"
        client.send(request + string(client.host_key))
        answer = client.expect(hostile.REQUEST_SUCCESS, hostile.REQUEST_FAILURE)
        assert answer[0] == hostile.REQUEST_SUCCESS
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        signed = b"".join(map(string, (b"hostkeys-prove-00@openssh.com", client.session, client.host_key)))
        signature = hostile.strings(hostile.strings(answer[1:])[0])[1]
        Ed25519PublicKey.from_public_bytes(hostile.strings(client.host_key)[1]).verify(signature, signed)
        client.send(request + string(client.host_key) * 500, request, request + string("x"))
        client.send(*[request + string(client.host_key)] * 200)
        answers = [client.expect(hostile.REQUEST_SUCCESS, hostile.REQUEST_FAILURE)[0] for _ in range(203)]
        assert answers.count(hostile.REQUEST_SUCCESS) <= 3
        client.echo("remote", echo)


def test_extended_data_ends_the_connection(one: Relay, echo: int) -> None:
    """direct-tcpip has no stderr: who sends one does not speak the protocol."""
    with logged_in(one) as client:
        _, channel = client.open("remote", echo)
        client.send(bytes([hostile.EXTENDED_DATA]) + uint32(channel, 1) + string("x"))
        assert client.gone() == "protocol error"


@pytest.mark.parametrize("grants", [[0xFFFFFFFF], [1 << 31, 1 << 31], [0xFFFFFFFF, 0xFFFFFFFF]])
def test_a_window_that_overflows_ends_the_connection(one: Relay, echo: int, grants: list[int]) -> None:
    """RFC 4254 5.2: a window is at most 2^32-1."""
    with logged_in(one) as client:
        _, channel = client.open("remote", echo)
        for grant in grants:
            client.send(bytes([hostile.WINDOW_ADJUST]) + uint32(channel, grant))
        assert client.gone() == "protocol error"


def test_more_data_than_the_window_ends_the_connection(one: Relay, tmp_path: object) -> None:
    """A client that ignores our window towards a target that reads nothing is cut off, not buffered."""
    import socket

    with socket.create_server(("127.0.0.2", 0), backlog=1) as deaf, logged_in(one) as client:
        _, channel = client.open("remote", deaf.getsockname()[1])
        with pytest.raises(Gone, match="protocol error"):
            for _ in range(64):
                client.write(channel, bytes(1 << 20))
            raise Gone(client.gone())


@pytest.mark.parametrize("kind", range(91, 101))
def test_messages_for_channels_that_are_not_there_end_the_connection(one: Relay, kind: int) -> None:
    """A number that was never given out is a broken client; and only this connection ends."""
    with logged_in(one) as other, logged_in(one) as client:
        client.send(bytes([kind]) + uint32(4711) + bytes(12))
        assert client.gone() == "protocol error"
        other.refused("nowhere", 22)


@pytest.mark.parametrize("cut", [0, 1, 5, 12, 20])
def test_channel_opens_that_end_too_early_are_protocol_errors(one: Relay, cut: int) -> None:
    """A CHANNEL_OPEN without its fields ends the connection with a reason, and no traceback."""
    with logged_in(one) as client:
        client.send(client.ask("remote", 2000)[1][: 1 + cut])
        assert client.gone() == "protocol error"


def test_tiny_packet_sizes_are_refused(one: Relay, echo: int) -> None:
    """Packets of no bytes could carry nothing, and packets of one byte would cost the relay 65,536 for one read."""
    with logged_in(one) as client:
        for size in (0, 1):
            assert client.refused("remote", echo, size=size)[0] == hostile.SHORTAGE
        client.echo("remote", echo)


def test_small_packets_and_windows_are_kept_to(one: Relay, echo: int) -> None:
    """A client with a window of 300 bytes and packets of 256 gets exactly that, and more only when it grants more."""
    said = bytes(range(200)) * 2
    with logged_in(one) as client:
        number, channel = client.open("remote", echo, window=300, size=256)
        client.write(channel, said)
        found = b""
        while len(found) < 300:
            packet = client.expect(hostile.DATA)
            piece = hostile.strings(packet[5:])[0]
            assert len(piece) <= 256
            found += piece
        client.send(bytes([hostile.WINDOW_ADJUST]) + uint32(channel, 1000))
        assert found + client.read(number, 100) == said


def test_packets_of_one_byte_are_not_served(one: Relay, echo: int) -> None:
    """A client that takes one byte a packet would cost its worker two seconds for each read of a target."""
    with logged_in(one) as client:
        number, packet = client.ask("remote", echo, size=255)
        client.send(packet)
        assert client.answer(number)[0] == hostile.OPEN_FAILURE
        client.echo("remote", echo)


def test_forwards_in_one_connection_are_bounded(one: Relay, echo: int) -> None:
    """5,000 opens in one go: 256 forwards at most, each of the others is refused, and all are answered."""
    with logged_in(one) as client:
        packets = [client.ask("remote", echo)[1] for _ in range(5000)]
        client.send(*packets)
        answers = [client.expect(hostile.OPEN_CONFIRMATION, hostile.OPEN_FAILURE) for _ in packets]
        opened = [answer for answer in answers if answer[0] == hostile.OPEN_CONFIRMATION]
        assert 0 < len(opened) <= 256
        codes = {int.from_bytes(answer[5:9], "big") for answer in answers if answer[0] == hostile.OPEN_FAILURE}
        assert codes == {hostile.SHORTAGE}
        client.send(*(bytes([hostile.CLOSE]) + answer[5:9] for answer in opened))
        for _ in opened:
            client.expect(hostile.CLOSE)
        client.echo("remote", echo)
    wait_for(
        lambda: len(one.rows("forward.opened")) == len(one.rows("forward.closed")), "an opening has no closing row"
    )


def test_closing_twice_or_sending_after_the_end_is_the_clients_own_trouble(one: Relay, echo: int) -> None:
    """Data after EOF and a second CLOSE end this connection at most; the worker has others."""
    for packets in (
        lambda c: [bytes([hostile.EOF]) + uint32(c), bytes([hostile.DATA]) + uint32(c) + string("late")],
        lambda c: [bytes([hostile.EOF]) + uint32(c)] * 2,
        lambda c: [bytes([hostile.CLOSE]) + uint32(c)] * 2,
        lambda c: [bytes([hostile.CLOSE]) + uint32(c), bytes([hostile.DATA]) + uint32(c) + string("late")],
        lambda c: [bytes([hostile.OPEN_CONFIRMATION]) + uint32(c, 1, 1, 1)],
        lambda c: [bytes([hostile.OPEN_FAILURE]) + uint32(c, 1) + string("") + string("")],
    ):
        with logged_in(one) as other, logged_in(one) as client:
            _, channel = client.open("remote", echo)
            client.send(*packets(channel))
            client.send(bytes([hostile.GLOBAL_REQUEST]) + string("sync") + b"\1")
            try:
                client.expect(hostile.REQUEST_FAILURE)
            except Gone as end:
                assert str(end) == "protocol error"
            other.echo("remote", echo)

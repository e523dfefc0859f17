"""Netlink bytes are parsed or refused, and the real kernel is asked without waiting."""

import errno
import struct
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.net.kernel import netlink

HEADER = struct.Struct("=IHHII")


def message(kind: int, body: bytes, *, flags: int = 0, sequence: int = 7, port: int = 9) -> bytes:
    """One netlink message as the kernel would write it."""
    return HEADER.pack(HEADER.size + len(body), kind, flags, sequence, port) + body + b"\0" * (-len(body) % 4)


def read(data: bytes) -> list[tuple[int, bytes]]:
    return [(found.kind, bytes(found.body)) for found in netlink.split(memoryview(data), 7, 9)]


def test_messages_are_taken_apart_at_their_padded_lengths() -> None:
    """A body whose length is no multiple of four is followed by padding, which is skipped."""
    assert read(message(24, b"abcde") + message(3, b"")) == [(24, b"abcde"), (3, b"")]


@pytest.mark.parametrize("other", [{"sequence": 6}, {"sequence": 8}, {"port": 8}, {"port": 0}])
def test_an_answer_to_another_question_is_skipped(other: dict[str, int]) -> None:
    """Only the sequence number and the port id of the question count as its answer."""
    assert read(message(24, b"no!!", **other) + message(24, b"yes!")) == [(24, b"yes!")]


@pytest.mark.parametrize("length", [0, 15, 21, 0xFFFFFFFF])
def test_a_message_length_that_does_not_fit_is_refused(length: int) -> None:
    """A length shorter than the header or longer than the datagram is an error, not an endless loop."""
    with pytest.raises(OSError, match="netlink message") as raised:
        read(HEADER.pack(length, 24, 0, 7, 9) + b"abcd")
    assert raised.value.errno == errno.EBADMSG


def test_bytes_behind_the_last_message_are_refused() -> None:
    """A cut header is an error: an answer is whole or it is none."""
    with pytest.raises(OSError, match="behind the last"):
        read(message(24, b"abcd") + b"\1\2\3")


def test_attributes_are_found_by_type_without_their_flag_bits() -> None:
    """The nested bit is no part of the type, and what the writer makes the reader finds."""
    body = b"head" + netlink.attribute(5, b"abc") + netlink.attribute(9 | 0x8000, b"defg")
    found = netlink.attributes(memoryview(body), 4)
    assert {kind: bytes(value) for kind, value in found.items()} == {5: b"abc", 9: b"defg"}


@pytest.mark.parametrize("length", [0, 3, 9, 0xFFFF])
def test_an_attribute_length_that_does_not_fit_is_refused(length: int) -> None:
    """As with messages: too short or too long is an error."""
    with pytest.raises(OSError, match="netlink attribute"):
        netlink.attributes(memoryview(struct.pack("=HH", length, 1) + b"abcd"), 0)


def test_a_body_shorter_than_its_header_is_refused() -> None:
    """Attributes cannot begin behind the end."""
    with pytest.raises(OSError, match="at least 12"):
        netlink.attributes(memoryview(b"abcd"), 12)


@given(st.binary(max_size=200), st.integers(0, 40))
def test_any_bytes_are_parsed_or_refused(data: bytes, offset: int) -> None:
    """Whatever arrives: values or OSError(EBADMSG), nothing else, and always an end."""
    for parse in (lambda: read(data), lambda: netlink.attributes(memoryview(data), offset)):
        try:
            parse()
        except OSError as error:
            assert error.errno == errno.EBADMSG


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_what_is_written_is_read_again(bodies: list[bytes]) -> None:
    """Splitting undoes joining, for any bodies."""
    assert [body for _, body in read(b"".join(message(24, body) for body in bodies))] == bodies


def test_a_number_is_four_bytes_in_host_order() -> None:
    """A missing number is 0, one of another size an error."""
    assert netlink.number(memoryview((258).to_bytes(4, sys.byteorder))) == 258
    assert netlink.number(None) == 0
    with pytest.raises(OSError, match="2 bytes"):
        netlink.number(memoryview(b"ab"))


def test_the_kernel_answers_without_being_waited_for() -> None:
    """lo is there on every machine: a question and a dump give its RTM_NEWLINK at once."""
    with netlink.Netlink() as kernel:
        one = kernel.request(netlink.GETLINK, struct.pack("=BxHiII", 0, 0, 1, 0, 0), netlink.NEWLINK)
        assert struct.unpack_from("=BxHiII", one)[2] == 1
        assert kernel.dump(netlink.GETLINK, bytes(16), netlink.NEWLINK)


def test_a_no_of_the_kernel_is_its_errno() -> None:
    """A link that does not exist is ENODEV, in a question; a dump of nonsense is refused too."""
    with netlink.Netlink() as kernel:
        with pytest.raises(OSError, match="No such device") as raised:
            kernel.request(netlink.GETLINK, struct.pack("=BxHiII", 0, 0, 2**31 - 1, 0, 0), netlink.NEWLINK)
        assert raised.value.errno == errno.ENODEV
        with pytest.raises(OSError):
            kernel.dump(netlink.GETROUTE, b"\xff" * 3, netlink.NEWROUTE)


def test_a_question_after_a_failed_one_gets_its_own_answer() -> None:
    """What an abandoned question left in the socket is not taken for the next one's answer."""
    with netlink.Netlink() as kernel:
        dump = kernel._send(netlink.GETLINK, 0x301, bytes(16))  # never read
        assert dump
        one = kernel.request(netlink.GETLINK, struct.pack("=BxHiII", 0, 0, 1, 0, 0), netlink.NEWLINK)
        assert struct.unpack_from("=BxHiII", one)[2] == 1


def test_one_socket_serves_one_thread() -> None:
    """A dial does not pay for a socket: the thread's own is given again."""
    assert netlink.thread_socket() is netlink.thread_socket()

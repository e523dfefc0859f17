"""relay.core.policy.target: one canonical form per host and port, or a refusal."""

from ipaddress import ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.core.policy import target
from relay.core.policy.target import Target
from relay.errors import InputRejected


@pytest.mark.parametrize(
    ("host", "canonical"),
    [
        ("remote", "remote:22"),
        ("REMOTE", "remote:22"),
        ("remote.", "remote:22"),
        (b"remote", "remote:22"),
        ("remote.office", "remote.office:22"),
        ("web_1.a-b", "web_1.a-b:22"),
        ("0x7g", "0x7g:22"),  # no number: g is no hexadecimal digit
        ("192.168.1.201", "192.168.1.201:22"),
        ("192.168.1.201.", "192.168.1.201:22"),
        ("192.168.1.201.Office", "192.168.1.201.office:22"),
        ("0.0.0.0", "0.0.0.0:22"),  # well-formed; the policy refuses it
        ("fd00::1", "[fd00::1]:22"),
        ("[fd00::1]", "[fd00::1]:22"),
        ("FD00:0:0:0:0:0:0:1", "[fd00::1]:22"),
        ("fd00::1.office", "[fd00::1.office]:22"),
        ("[fd00::1.office]", "[fd00::1.office]:22"),
        ("[fd00::1].office", "[fd00::1.office]:22"),
        ("[fd00::1].", "[fd00::1]:22"),
        ("fd00::192.168.1.1", "[fd00::c0a8:101]:22"),
        ("fd00::192.168.1.1.office", "[fd00::c0a8:101.office]:22"),
        ("::ffff:192.168.1.201", "192.168.1.201:22"),
        ("[::ffff:c0a8:1c9]", "192.168.1.201:22"),
        ("::ffff:192.168.1.201.office", "192.168.1.201.office:22"),
    ],
)
def test_spellings_of_one_thing_are_one_target(host: str | bytes, canonical: str) -> None:
    """Case, one trailing dot, brackets and v4-mapping are taken away; what is left can be typed again."""
    found = target.parse_target(host, 22)
    assert str(found) == canonical
    assert target.parse_spec(canonical) == found


def test_the_parts_of_a_target() -> None:
    """A literal is an address with the zone typed behind it; a name stays whole, only the inventory can split it."""
    assert target.parse_target("192.168.1.201.office", 22) == Target("", ip_address("192.168.1.201"), "office", 22)
    assert target.parse_target("remote.office", 22) == Target("remote.office", None, "", 22)
    assert target.parse_target("fd00::1.office", 22).host == "fd00::1.office"


@pytest.mark.parametrize(
    ("host", "what", "cure"),
    [
        ("", "the host is empty", "name a host"),
        (".", "is not a host", "a name of the inventory"),
        ("remote..", "is not a host", ""),
        ("a..b", "is not a host", ""),
        (".remote", "is not a host", ""),
        ("-oProxyCommand=x", "is not a host", ""),
        ("-remote", "is not a host", ""),
        ("re mote", "spaces or control characters", ""),
        ("remote\n", "spaces or control characters", ""),
        ("remote\0", "spaces or control characters", ""),
        (b"re\x1bmote", "spaces or control characters", ""),
        ("remote\x7f", "spaces or control characters", ""),
        ("x" * 256, "longer than 255 bytes", ""),
        (b"x" * 200_000, "longer than 255 bytes", ""),
        ("bücher.example", "not ASCII", "plain ASCII name from the inventory"),
        (b"\xff\xfe", "not ASCII", "plain ASCII name"),
        ("xn--bcher-kva.example", "internationalised", "plain ASCII name"),
        ("a.xn--bcher-kva", "internationalised", "plain ASCII name"),
        ("remote@office", "is not a host", "NAME.ZONE, not NAME@ZONE"),
        ("remote%eth0", "is not a host", "leave out %"),
        ("192.168.1.0/24", "is not a host", "not a network"),
        ("*", "is not a host", ""),
        ("010.1.1.1", "leading zero", "four decimal numbers"),
        ("10.01.1.1", "leading zero", "four decimal numbers"),
        ("10.1.1.1.1", "name of a zone", "ADDRESS.ZONE"),
        ("10.1.1", "short form", "four decimal numbers"),
        ("10.1", "short form", "four decimal numbers"),
        ("10.office", "short form", "four decimal numbers"),
        ("2130706433", "short form", "four decimal numbers"),
        ("0x7f000001", "short form", "four decimal numbers"),
        ("0x7f.0.0.1", "not an IPv4 address", "four decimal numbers"),
        ("192.168.1.256", "not an IPv4 address", "four decimal numbers"),
        ("192.168.1.x", "not an IPv4 address", "four decimal numbers"),
        ("192.168.1.201.0x1f", "name of a zone", ""),
        ("192.168.1.201." + "z" * 33, "name of a zone", ""),
        ("[192.168.1.201]", "not an IPv6 address", "brackets are for IPv6 only"),
        ("[remote]", "not an IPv6 address", "brackets are for IPv6 only"),
        ("[fd00::1", "unbalanced brackets", ""),
        ("fd00::1]", "not an IPv6 address", ""),
        ("[fd00::1]x", "unbalanced brackets", ""),
        ("[fd00::1]..", "name of a zone", ""),
        ("[fd00::1.]", "name of a zone", ""),
        ("[fd00::1.office].plant", "two zones", "[fd00::1.office]"),
        ("fe80::1%eth0", "zone id", "leave out %"),
        ("[fe80::1%25eth0]", "zone id", "leave out %"),
        ("fd00:::1", "not an IPv6 address", ""),
        ("12345::1", "not an IPv6 address", ""),
        ("::ffff:010.1.1.1", "leading zero", ""),
        ("remote:22", "not an IPv6 address", ""),
    ],
)
def test_what_could_mean_two_things_is_refused(host: str | bytes, what: str, cure: str) -> None:
    """A refusal says what is wrong and what to type instead, and never carries a control character."""
    with pytest.raises(InputRejected) as caught:
        target.parse_target(host, 22)
    assert what in caught.value.what
    assert cure in caught.value.hint
    assert caught.value.what.isprintable()


@pytest.mark.parametrize("port", [0, -1, 65536, 70000, 1 << 40, True, "22", 22.0, None])
def test_a_port_is_a_number_from_1_to_65535(port: object) -> None:
    """Anything else is refused, the boolean that Python takes for a number too."""
    with pytest.raises(InputRejected, match="is not a port"):
        target.parse_target("remote", port)  # type: ignore[arg-type]


@pytest.mark.parametrize("port", [1, 65535])
def test_the_first_and_the_last_port_are_ports(port: int) -> None:
    """The bounds are inclusive."""
    assert target.parse_target("remote", port).port == port


@pytest.mark.parametrize(
    "spec", ["remote", "remote:", "remote:0", "remote:022", "remote:123456", "remote:+22", "a:２２"]
)
def test_a_spec_ends_in_a_port(spec: str) -> None:
    """HOST:PORT as people write it, the port in plain digits."""
    with pytest.raises(InputRejected, match="does not end in a port"):
        target.parse_spec(spec)


def test_a_spec_needs_brackets_around_ipv6() -> None:
    """fd00::1:22 could be an address with or without a port."""
    with pytest.raises(InputRejected) as caught:
        target.parse_spec("fd00::1:22")
    assert "brackets" in caught.value.hint
    with pytest.raises(InputRejected, match="not a port"):
        target.parse_spec("remote:65536")


@given(st.one_of(st.binary(max_size=300), st.text(max_size=300)), st.integers(-5, 70000))
@example("::1.2.3.4.5.6.7.8", 22)
def test_any_bytes_are_a_target_or_refused(host: str | bytes, port: int) -> None:
    """Nothing but InputRejected is ever raised, and the canonical form of what is taken is its own canonical form."""
    try:
        found = target.parse_target(host, port)
    except InputRejected:
        return
    assert target.parse_spec(str(found)) == found
    assert target.parse_target(found.host, port) == found


@given(st.text("0123456789abcdefx.:[]%- ", max_size=40))
def test_what_looks_like_an_address_is_a_target_or_refused(host: str) -> None:
    """The same for texts made of what addresses are made of."""
    test_any_bytes_are_a_target_or_refused.hypothesis.inner_test(host, 22)


@given(st.text(max_size=80))
def test_any_spec_is_a_target_or_refused(spec: str) -> None:
    """parse_spec raises nothing but InputRejected."""
    try:
        found = target.parse_spec(spec)
    except InputRejected:
        return
    assert str(target.parse_spec(str(found))) == str(found)


@pytest.mark.parametrize("name", ["a", "alice", "1", "a.b_c-d", "x" * 32, "everyone"])
def test_fit_names(name: str) -> None:
    """Lower case letters, digits, dot, underscore and dash, 32 at most, a letter or digit first."""
    assert target.name_fault(name) is None


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("", "empty"),
        ("x" * 33, "longer than 32"),
        ("Alice", "capital"),
        ("-alice", "does not begin"),
        ("_x", "does not begin"),
        ("al ice", "more than"),
        ("alice\n", "more than"),
        ("alice,bob", "more than"),
    ],
)
def test_unfit_names(name: str, fault: str) -> None:
    """Each says what is wrong with it."""
    assert fault in (target.name_fault(name) or "")
    assert fault in (target.place_fault(name) or "")


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("remote.", "dot at its end"),
        ("a..b", "two in a row"),
        ("10", "begins with a number"),
        ("0x1f", "begins with a number"),
        ("192.168.1.201", "begins with a number"),
        ("192.168.1.201.office", "begins with a number"),
        ("xn--bcher-kva", "internationalised"),
    ],
)
def test_places_cannot_look_like_literals(name: str, fault: str) -> None:
    """A host or zone of such a name could never be typed, or would be taken for an address; a person may have it."""
    assert fault in (target.place_fault(name) or "")


@pytest.mark.parametrize("name", ["remote", "remote.office", "3com", "rack.1"])
def test_fit_places(name: str) -> None:
    """A place that is a number further behind is no literal."""
    assert target.place_fault(name) is None
    assert target.parse_target(name, 22).name == name

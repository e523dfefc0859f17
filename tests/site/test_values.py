"""Names, addresses, networks, ports, listeners and sizes as they stand in a site's files."""

from collections.abc import Callable
from fnmatch import fnmatchcase
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import InputRejected
from relay.site import values


@pytest.mark.parametrize(
    ("read", "given_value", "value"),
    [
        (values.name, "alice", "alice"),
        (values.name, "1password", "1password"),
        (values.place, "office", "office"),
        (values.address, "192.168.1.201", ip_address("192.168.1.201")),
        (values.address, "FD00::0:1", ip_address("fd00::1")),
        (values.network, "192.168.1.0/24", ip_network("192.168.1.0/24")),
        (values.network, "192.168.1.7", ip_network("192.168.1.7/32")),
        (values.network, "fd00::/8", ip_network("fd00::/8")),
        (values.ports, 22, (22, 22)),
        (values.ports, "22", (22, 22)),
        (values.ports, "8000-8100", (8000, 8100)),
        (values.port, 65535, 65535),
        (values.interface, "zt*", "zt*"),
        (values.interface, "lo", "lo"),
        (values.interface, "eth0.100", "eth0.100"),
        (values.user, "ubuntu", "ubuntu"),
        (values.title, " ops reach the office ", "ops reach the office"),
        (values.listener, "0.0.0.0:2222", "0.0.0.0:2222"),
        (values.listener, "[0::0]:0", "[::]:0"),
        (values.window, "off", ""),
        (values.anchors, "off", ""),
        (values.anchors, "syslog", "syslog"),
        (values.anchors, "/mnt/elsewhere/anchors", "/mnt/elsewhere/anchors"),
        (values.window, "127.0.0.1:9422", "127.0.0.1:9422"),
        (values.window, "127.1.2.3:1", "127.1.2.3:1"),
        (values.window, "[0::1]:9422", "[::1]:9422"),
        (values.window, "/run/relay/metrics.sock", "/run/relay/metrics.sock"),
        (values.public, "Relay.Example.com", "relay.example.com:22"),
        (values.public, "[FD00::1]:2222", "[fd00::1]:2222"),
        (values.public, "203.0.113.1:2222", "203.0.113.1:2222"),
        (values.size, "64KiB", 65536),
    ],
)
def test_read(read: Callable[[object], object], given_value: object, value: object) -> None:
    """What is right is read into its one canonical value."""
    assert read(given_value) == value


@pytest.mark.parametrize(
    ("read", "given_value"),
    [
        (values.name, "Alice"),
        (values.name, ""),
        (values.name, "alice,bob"),
        (values.name, "a" * 33),
        (values.name, 7),
        (values.name, True),
        (values.name, None),
        (values.name, ["alice"]),
        (values.place, "10"),
        (values.place, "192.168.1.1"),
        (values.place, "10.office"),
        (values.address, "192.168.1"),
        (values.address, "192.168.1.256"),
        (values.address, "192.168.01.1"),
        (values.address, "192.168.1.0/24"),
        (values.address, "::ffff:192.168.1.1"),
        (values.address, "fe80::1%eth0"),
        (values.address, 3232235777),
        (values.network, "192.168.1.1/24"),
        (values.network, "192.168.1.0/33"),
        (values.network, "::ffff:0:0/96"),
        (values.network, "::/1"),
        (values.network, 10.8),
        (values.ports, 0),
        (values.ports, 65536),
        (values.ports, -1),
        (values.ports, 22.0),
        (values.ports, True),
        (values.ports, "http"),
        (values.ports, "90-80"),
        (values.ports, "0-10"),
        (values.ports, "２２"),
        (values.port, "1-2"),
        (values.interface, "*"),
        (values.interface, "?t0"),
        (values.interface, "l*"),
        (values.interface, "l?"),
        (values.interface, "a" * 16),
        (values.interface, "eth0/x"),
        (values.interface, ".."),
        (values.user, "ubuntu\nProxyCommand x"),
        (values.user, "-oX"),
        (values.title, "two\nlines"),
        (values.title, "\x1b[31mred"),
        (values.title, " "),
        (values.listener, "2222"),
        (values.listener, ":2222"),
        (values.listener, "localhost:2222"),
        (values.listener, "::1:2222"),
        (values.listener, "0.0.0.0:65536"),
        (values.listener, "0.0.0.0"),
        (values.window, ""),
        (values.anchors, ""),
        (values.anchors, False),
        (values.anchors, "anchors"),
        (values.anchors, "/mnt/../etc/passwd"),
        (values.window, False),
        (values.window, "9422"),
        (values.window, "localhost:9422"),
        (values.window, "0.0.0.0:9422"),
        (values.window, "[::]:9422"),
        (values.window, "192.168.1.10:9422"),
        (values.window, "126.255.255.255:9422"),
        (values.window, "128.0.0.1:9422"),
        (values.window, "[::2]:9422"),
        (values.window, "metrics.sock"),
        (values.window, "/"),
        (values.window, "/run/relay/"),
        (values.window, "/run/../etc/x"),
        (values.window, "/run/a b"),
        (values.window, "/run/\0x"),
        (values.window, "/" + "a" * 100),
        (values.window, "/var/lib/relay/run/control.sock"),
        (values.public, "relay:0"),
        (values.public, "bad_host!:22"),
        (values.public, "10.1:22"),
        (values.public, ""),
        (values.size, "64"),
        (values.size, "1MB"),
    ],
)
def test_refused(read: Callable[[object], object], given_value: object) -> None:
    """The near-misses are refused, each with a cure."""
    with pytest.raises(InputRejected) as caught:
        read(given_value)
    assert caught.value.hint


def test_bits_after_the_prefix_are_explained() -> None:
    """192.168.1.5/24 could mean two things, so the cure names both."""
    with pytest.raises(InputRejected) as caught:
        values.network("192.168.1.5/24")
    assert "192.168.1.0/24" in caught.value.hint
    assert "192.168.1.5 " in caught.value.hint


_JSON = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=40), st.lists(st.integers(), max_size=1)
)


@given(_JSON)
def test_any_value(value: object) -> None:
    """Whatever YAML can say is a value or InputRejected, in every grammar of this module."""
    for read in (values.name, values.place, values.address, values.network, values.ports, values.port, values.interface,
                 values.user, values.title, values.listener, values.public, values.size):  # fmt: skip
        try:
            read(value)
        except InputRejected as error:
            assert error.what


_PATTERN = st.text(alphabet="ab*?", max_size=6)


@given(_PATTERN, _PATTERN, st.text(alphabet="ab", max_size=6))
def test_patterns_meet(one: str, other: str, name: str) -> None:
    """Two patterns that some name matches are said to meet, whichever comes first."""
    if fnmatchcase(name, one) and fnmatchcase(name, other):
        assert values.patterns_meet(one, other)
    assert values.patterns_meet(one, other) == values.patterns_meet(other, one)


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [("zt*", "zt0", True), ("zt*", "wg*", False), ("z?0", "zt*", True), ("zt0", "zt1", False),
     ("a*b", "ab*c", False)])  # fmt: skip
def test_patterns_apart(one: str, other: str, meet: bool) -> None:
    """Patterns meet exactly when one interface could match both."""
    assert values.patterns_meet(one, other) is meet

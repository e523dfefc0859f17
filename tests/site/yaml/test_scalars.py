"""Names, addresses, networks, ports, listeners and sizes as they stand in a site's files."""

from collections.abc import Callable
from fnmatch import fnmatchcase
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import InputRejected
from relay.site.yaml import scalars


@pytest.mark.parametrize(
    ("read", "given_value", "value"),
    [
        (scalars.name, "alice", "alice"),
        (scalars.name, "1password", "1password"),
        (scalars.place, "office", "office"),
        (scalars.address, "192.168.1.201", ip_address("192.168.1.201")),
        (scalars.address, "FD00::0:1", ip_address("fd00::1")),
        (scalars.network, "192.168.1.0/24", ip_network("192.168.1.0/24")),
        (scalars.network, "192.168.1.7", ip_network("192.168.1.7/32")),
        (scalars.network, "fd00::/8", ip_network("fd00::/8")),
        (scalars.ports, 22, (22, 22)),
        (scalars.ports, "22", (22, 22)),
        (scalars.ports, "8000-8100", (8000, 8100)),
        (scalars.port, 65535, 65535),
        (scalars.interface, "zt*", "zt*"),
        (scalars.interface, "lo", "lo"),
        (scalars.interface, "eth0.100", "eth0.100"),
        (scalars.user, "ubuntu", "ubuntu"),
        (scalars.title, " ops reach the office ", "ops reach the office"),
        (scalars.listener, "0.0.0.0:2222", "0.0.0.0:2222"),
        (scalars.listener, "[0::0]:0", "[::]:0"),
        (scalars.window, "off", ""),
        (scalars.anchors, "off", ""),
        (scalars.anchors, "syslog", "syslog"),
        (scalars.anchors, "/mnt/elsewhere/anchors", "/mnt/elsewhere/anchors"),
        (scalars.window, "127.0.0.1:9422", "127.0.0.1:9422"),
        (scalars.window, "127.1.2.3:1", "127.1.2.3:1"),
        (scalars.window, "[0::1]:9422", "[::1]:9422"),
        (scalars.window, "/run/relay/metrics.sock", "/run/relay/metrics.sock"),
        (scalars.public, "Relay.Example.com", "relay.example.com:22"),
        (scalars.public, "[FD00::1]:2222", "[fd00::1]:2222"),
        (scalars.public, "203.0.113.1:2222", "203.0.113.1:2222"),
        (scalars.size, "64KiB", 65536),
    ],
)
def test_read(read: Callable[[object], object], given_value: object, value: object) -> None:
    """What is right is read into its one canonical value."""
    assert read(given_value) == value


@pytest.mark.parametrize(
    ("read", "given_value"),
    [
        (scalars.name, "Alice"),
        (scalars.name, ""),
        (scalars.name, "alice,bob"),
        (scalars.name, "a" * 33),
        (scalars.name, 7),
        (scalars.name, True),
        (scalars.name, None),
        (scalars.name, ["alice"]),
        (scalars.place, "10"),
        (scalars.place, "192.168.1.1"),
        (scalars.place, "10.office"),
        (scalars.address, "192.168.1"),
        (scalars.address, "192.168.1.256"),
        (scalars.address, "192.168.01.1"),
        (scalars.address, "192.168.1.0/24"),
        (scalars.address, "::ffff:192.168.1.1"),
        (scalars.address, "fe80::1%eth0"),
        (scalars.address, 3232235777),
        (scalars.network, "192.168.1.1/24"),
        (scalars.network, "192.168.1.0/33"),
        (scalars.network, "::ffff:0:0/96"),
        (scalars.network, "::/1"),
        (scalars.network, 10.8),
        (scalars.ports, 0),
        (scalars.ports, 65536),
        (scalars.ports, -1),
        (scalars.ports, 22.0),
        (scalars.ports, True),
        (scalars.ports, "http"),
        (scalars.ports, "90-80"),
        (scalars.ports, "0-10"),
        (scalars.ports, "２２"),
        (scalars.port, "1-2"),
        (scalars.interface, "*"),
        (scalars.interface, "?t0"),
        (scalars.interface, "l*"),
        (scalars.interface, "l?"),
        (scalars.interface, "a" * 16),
        (scalars.interface, "eth0/x"),
        (scalars.interface, ".."),
        (scalars.user, "ubuntu\nProxyCommand x"),
        (scalars.user, "-oX"),
        (scalars.title, "two\nlines"),
        (scalars.title, "\x1b[31mred"),
        (scalars.title, " "),
        (scalars.listener, "2222"),
        (scalars.listener, ":2222"),
        (scalars.listener, "localhost:2222"),
        (scalars.listener, "::1:2222"),
        (scalars.listener, "0.0.0.0:65536"),
        (scalars.listener, "0.0.0.0"),
        (scalars.window, ""),
        (scalars.anchors, ""),
        (scalars.anchors, False),
        (scalars.anchors, "anchors"),
        (scalars.anchors, "/mnt/../etc/passwd"),
        (scalars.window, False),
        (scalars.window, "9422"),
        (scalars.window, "localhost:9422"),
        (scalars.window, "0.0.0.0:9422"),
        (scalars.window, "[::]:9422"),
        (scalars.window, "192.168.1.10:9422"),
        (scalars.window, "126.255.255.255:9422"),
        (scalars.window, "128.0.0.1:9422"),
        (scalars.window, "[::2]:9422"),
        (scalars.window, "metrics.sock"),
        (scalars.window, "/"),
        (scalars.window, "/run/relay/"),
        (scalars.window, "/run/../etc/x"),
        (scalars.window, "/run/a b"),
        (scalars.window, "/run/\0x"),
        (scalars.window, "/" + "a" * 100),
        (scalars.window, "/var/lib/relay/run/control.sock"),
        (scalars.public, "relay:0"),
        (scalars.public, "bad_host!:22"),
        (scalars.public, "10.1:22"),
        (scalars.public, ""),
        (scalars.size, "64"),
        (scalars.size, "1MB"),
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
        scalars.network("192.168.1.5/24")
    assert "192.168.1.0/24" in caught.value.hint
    assert "192.168.1.5 " in caught.value.hint


_JSON = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=40), st.lists(st.integers(), max_size=1)
)


@given(_JSON)
def test_any_value(value: object) -> None:
    """Whatever YAML can say is a value or InputRejected, in every grammar of this module."""
    for read in (
        scalars.name,
        scalars.place,
        scalars.address,
        scalars.network,
        scalars.ports,
        scalars.port,
        scalars.interface,
        scalars.user,
        scalars.title,
        scalars.listener,
        scalars.public,
        scalars.size,
    ):
        try:
            read(value)
        except InputRejected as error:
            assert error.what


_PATTERN = st.text(alphabet="ab*?", max_size=6)


@given(_PATTERN, _PATTERN, st.text(alphabet="ab", max_size=6))
def test_patterns_meet(one: str, other: str, name: str) -> None:
    """Two patterns that some name matches are said to meet, whichever comes first."""
    if fnmatchcase(name, one) and fnmatchcase(name, other):
        assert scalars.patterns_meet(one, other)
    assert scalars.patterns_meet(one, other) == scalars.patterns_meet(other, one)


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [("zt*", "zt0", True), ("zt*", "wg*", False), ("z?0", "zt*", True), ("zt0", "zt1", False),
     ("a*b", "ab*c", False)])  # fmt: skip
def test_patterns_apart(one: str, other: str, meet: bool) -> None:
    """Patterns meet exactly when one interface could match both."""
    assert scalars.patterns_meet(one, other) is meet

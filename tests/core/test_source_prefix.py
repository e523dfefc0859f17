"""The source and the network of a client's address."""

from relay.core.source_prefix import network_of, source_of


def test_a_source_is_an_address_or_a_64() -> None:
    """IPv4 is counted by address, mapped or not; IPv6 by /64, because one machine has all of it."""
    assert source_of("192.0.2.7") == source_of("::ffff:192.0.2.7") == "192.0.2.7"
    assert source_of("2001:db8::1") == source_of("2001:db8::ffff:1") != source_of("2001:db8:0:1::1")


def test_a_network_is_a_24_or_a_48() -> None:
    """The network of a source, whether that is an address or a /64."""
    assert network_of("192.0.2.7") == "192.0.2.0/24"
    assert network_of(source_of("2001:db8:1:2::3")) == "2001:db8:1::/48"

"""The filter options of `audit search` and `tail`."""

from datetime import UTC
from ipaddress import ip_address, ip_network
from zoneinfo import ZoneInfo

import click
import pytest

from relay.cli.audit.options import query_from_options, zone_of

NONE = dict.fromkeys(("person", "key", "target", "client", "to", "since", "until", "verdict", "event", "text"))


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("Remote", ("remote", None, None)),
        ("remote:22", ("remote", None, 22)),
        ("192.168.1.50", ("", ip_address("192.168.1.50"), None)),
        ("192.168.1.50:443", ("", ip_address("192.168.1.50"), 443)),
        ("2001:db8::7", ("", ip_address("2001:db8::7"), None)),
        ("[2001:db8::7]:22", ("", ip_address("2001:db8::7"), 22)),
        ("::ffff:192.168.1.50", ("", ip_address("192.168.1.50"), None)),
    ],
)
def test_a_target_is_a_name_or_an_address_with_or_without_a_port(target, expected):
    """Names in lower case; an IPv6 address needs brackets before a port; mapped IPv4 is IPv4."""
    query = query_from_options({**NONE, "target": target}, UTC)
    assert (query.host, query.address, query.port) == expected


def test_networks_may_have_host_bits():
    """`--from 203.0.113.7/24` means the network of that address."""
    query = query_from_options({**NONE, "client": "203.0.113.7/24", "to": "192.168.1.50"}, UTC)
    assert (query.client, query.to) == (ip_network("203.0.113.0/24"), ip_network("192.168.1.50/32"))


def test_times_are_in_the_site_s_time_zone_and_until_includes_the_day():
    """Midnight of that zone; `--until` with a day ends with the next midnight."""
    query = query_from_options({**NONE, "since": "2026-10-01", "until": "2026-10-01"}, ZoneInfo("Asia/Shanghai"))
    assert query.since == 1_790_784_000_000_000  # 2026-09-30T16:00Z
    assert query.until == query.since + 86_400_000_000


@pytest.mark.parametrize(
    ("option", "text", "said"),
    [
        ("target", "remote:65536", "65536 is not a port"),
        ("client", "203.0.113.0/33", "is not an address or network"),
        ("event", "forward.denid", "did you mean 'forward.denied'?"),
        ("since", "soon", "'soon' is not a time"),
        ("text", "\udcff", "--text is not UTF-8"),
    ],
)
def test_a_wrong_value_is_a_usage_error_that_names_it(option, text, said):
    """And says what would be right where that is known."""
    with pytest.raises(click.UsageError) as raised:
        query_from_options({**NONE, option: text}, UTC)
    assert said in raised.value.format_message()


@pytest.mark.parametrize(
    ("text", "zone", "said"),
    [
        ("timezone: Asia/Shanghai # ours\n", ZoneInfo("Asia/Shanghai"), ""),
        ("rules: [half\ntimezone: 'Europe/Berlin'\n", ZoneInfo("Europe/Berlin"), ""),
        ("workers: 2\n", UTC, ""),
        ("timezone: Mars/Phobos\n", UTC, "there is no time zone Mars/Phobos"),
        ("timezone: [a]\n", UTC, "relayctl check says why"),
    ],
)
def test_the_time_zone_is_found_in_a_broken_site_too(tmp_path, capsys, text, zone, said):
    """UTC with a message when the value is none; UTC without one when there is no value or no file."""
    assert zone_of(tmp_path) == UTC
    (tmp_path / "relay.yaml").write_text(text)
    assert zone_of(tmp_path) == zone
    assert said in capsys.readouterr().err

"""relay.core.keys.authorized_keys_options: what the options in front of a key ask for."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.keys import authorized_keys_options
from relay.core.keys.authorized_keys_options import KeyOptions, parse, wildcard
from relay.errors import InputRejected

BERLIN = ((0, 3600), (1_774_746_000, 7200), (1_792_890_000, 3600))  # 2026: 29 March and 25 October, 01:00 UTC
SHANGHAI = ((0, 28_800),)


@pytest.mark.parametrize(
    ("text", "forwarding"),
    [
        ("restrict", False),
        ("Restrict", False),
        ("no-port-forwarding", False),
        ("NO-PORT-FORWARDING", False),
        ("port-forwarding", True),
        ("restrict,port-forwarding", True),
        ("port-forwarding,restrict", False),
        ("restrict,Port-Forwarding,no-port-forwarding", False),
        ("restrict,pty", False),
    ],
)
def test_the_last_word_about_forwarding_counts(text: str, forwarding: bool) -> None:
    """restrict, port-forwarding and no-port-forwarding take effect in their order, in any case of letters."""
    assert parse(text).forwarding is forwarding


def test_what_is_never_offered_is_without_effect() -> None:
    """Options about shells, terminals, agents, X11, -R and tunnels are accepted, and listed as written."""
    text = (
        'command="/usr/sbin/nologin",no-pty,no-X11-forwarding,No-Agent-Forwarding,no-user-rc,environment="A=b",'
        'permitlisten="localhost:1",tunnel="0",pty,X11-forwarding,agent-forwarding,user-rc'
    )
    options = parse(text)
    assert options.without_effect[:2] == ("command=/usr/sbin/nologin", "no-pty")
    assert len(options.without_effect) == 12
    assert options.forwarding


def test_a_quoted_quote_ends_nothing() -> None:
    """Inside a value \\" is a quote, and commas and spaces part nothing."""
    text = 'command="echo \\"a, b\\" # c",no-pty'
    assert parse(text).without_effect == ('command=echo "a, b" # c', "no-pty")
    assert authorized_keys_options.advance(text + " ssh-ed25519 AAAA") == len(text)


@pytest.mark.parametrize(
    "text",
    [
        "cert-authority",
        'principals="alice"',
        "no-touch-required",
        "NO-Touch-Required",
        "some-future-narrowing",
        "restrictive",
        "",
        ",",
        "no-pty,",
        ",no-pty",
        "no-pty,,no-pty",
        "no-pty no-pty",
        "from",
        "from=10.0.0.1",
        'from=""',
        'from="10.0.0.1',
        'from="10.0.0.1",from="10.0.0.2"',
        'command="a",command="b"',
        "command",
        "command=x",
        "permitopen",
        'restrict="yes"',
        'no-pty="yes"',
        'no-port-forwarding=""',
        "no-restrict",
        'verify-required="1"',
        'expiry-time="tomorrow"',
        "expiry-time",
    ],
)
def test_anything_else_is_a_fault_with_a_cure(text: str) -> None:
    """What is not known, not whole, or would widen what we always ask, is refused with what to write instead."""
    with pytest.raises(InputRejected) as caught:
        parse(text)
    assert caught.value.hint


def test_touch_is_required_already_and_verification_when_asked() -> None:
    """touch-required changes nothing; verify-required is kept, and the last word about it counts."""
    assert parse("touch-required") == KeyOptions()
    assert parse("verify-required").verify_required
    assert not parse("verify-required,no-verify-required").verify_required


@pytest.mark.parametrize(
    ("pattern", "inside", "outside"),
    [
        ("10.0.0.1", "10.0.0.1", "10.0.0.2"),
        ("10.0.0.0/30", "10.0.0.3", "10.0.0.4"),
        ("0.0.0.0/0", "203.0.113.9", "2001:db8::1"),
        ("2001:DB8::/32", "2001:db8::7", "2001:db9::7"),
        ("fd00::1", "fd00::1", "fd00::2"),
        ("192.168.1.*", "192.168.1.77", "192.168.11.7"),
        ("192.168.1.?", "192.168.1.7", "192.168.1.77"),
        ("fd00:*", "fd00::5", "fd01::5"),
        ("*", "10.9.8.7", ""),
    ],
)
def test_sources(pattern: str, inside: str, outside: str) -> None:
    """from= matches an address, a network or a wildcard, and not the adjacent address."""
    (source,) = parse(f'from="{pattern}"').sources
    assert source.matches(ip_address(inside), inside)
    assert not outside or not source.matches(ip_address(outside), outside)


@pytest.mark.parametrize(
    "pattern",
    [
        "office.example.com",
        "*.example.com",
        "host?",
        "!gateway",
        "10.0.0.1,",
        ",10.0.0.1",
        "!",
        "10.0.0.1, 10.0.0.2",
        "10.0.0.1/24",
        "10.0.0.0/33",
        "10.0.0.0/255.0.0.0",
        "10.0.0.0/",
        "10.1",
        "010.0.0.1",
        "0x0a000001",
        "::ffff:10.0.0.1",
        "::ffff:10.0.0.0/104",
        "fe80::1%eth0",
        "١٠.0.0.1",
        "10.0.0.1/٨",
    ],
)
def test_patterns_that_match_nothing_or_too_much_are_refused(pattern: str) -> None:
    """Names (nothing is ever looked up), host bits in a network, short and disguised forms are faults with a cure."""
    with pytest.raises(InputRejected) as caught:
        parse(f'from="{pattern}"')
    assert caught.value.hint


@given(st.text("ab*?", max_size=12), st.text("ab", max_size=12))
def test_wildcards_mean_what_the_slow_definition_says(pattern: str, text: str) -> None:
    """The linear matcher agrees with the recursive definition."""

    def slow(p: str, t: str) -> bool:
        if not p:
            return not t
        if p[0] == "*":
            return slow(p[1:], t) or (bool(t) and slow(p, t[1:]))
        return bool(t) and p[0] in ("?", t[0]) and slow(p[1:], t[1:])

    assert wildcard(pattern, text) == slow(pattern, text)


@pytest.mark.parametrize(
    ("text", "offsets", "utc"),
    [
        ("20261231", (), "2026-12-31T00:00:00"),
        ("20261231Z", SHANGHAI, "2026-12-31T00:00:00"),
        ("20261231z", SHANGHAI, "2026-12-31T00:00:00"),
        ("20261231UTC", SHANGHAI, "2026-12-31T00:00:00"),
        ("20261231", SHANGHAI, "2026-12-30T16:00:00"),
        ("202612312359", SHANGHAI, "2026-12-31T15:59:00"),
        ("20261231235958", SHANGHAI, "2026-12-31T15:59:58"),
        ("20260701", BERLIN, "2026-06-30T22:00:00"),
        ("202610250230", BERLIN, "2026-10-25T00:30:00"),  # happens twice: the earlier
        ("202603290230", BERLIN, "2026-03-29T00:30:00"),  # never happens: the earlier
        ("19700101", SHANGHAI, "1970-01-01T00:00:00"),
    ],
)
def test_times_are_of_the_site_unless_they_say_utc(
    text: str, offsets: authorized_keys_options.Offsets, utc: str
) -> None:
    """A time without Z is on the site's clocks; where clocks change, the earlier instant is meant."""
    expected = int(datetime.fromisoformat(utc).replace(tzinfo=UTC).timestamp())
    assert parse(f'expiry-time="{text}"', offsets=offsets).expires == expected


def test_of_two_times_the_earlier_counts() -> None:
    """Several expiry-time= narrow: the earliest holds, as in OpenSSH."""
    assert parse('expiry-time="20270101Z",expiry-time="20260101Z"') == parse('expiry-time="20260101Z"')


@pytest.mark.parametrize(
    "text", ["", "2026", "2026-12-31", "20261301", "20260230", "202612312460", "20261231 ", "1969123123", "19691231Z"]
)
def test_times_that_are_none(text: str) -> None:
    """Half dates, dates of no calendar and dates before 1970 are faults."""
    with pytest.raises(InputRejected):
        parse(f'expiry-time="{text}"')


@given(st.datetimes(datetime(2026, 1, 2), datetime(2026, 12, 30)))  # noqa: DTZ001 - wall clock on purpose
def test_local_times_are_those_of_the_zone_database(wall: datetime) -> None:
    """Away from a gap, the instant found shows that wall clock in zoneinfo; it is the first such instant."""
    wall = wall.replace(microsecond=0)
    seconds = int(wall.replace(tzinfo=UTC).timestamp())
    found = datetime.fromtimestamp(authorized_keys_options.local_to_utc(seconds, BERLIN), ZoneInfo("Europe/Berlin"))
    gap = datetime(2026, 3, 29, 2) <= wall < datetime(2026, 3, 29, 3)  # noqa: DTZ001
    assert found.fold == 0
    assert found.replace(tzinfo=None) == (wall - timedelta(hours=1) if gap else wall)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("remote:22", "remote:22"),
        ("REMOTE.:22", "remote:22"),
        ("192.168.1.201:22", "192.168.1.201:22"),
        ("[FD00:0::1]:*", "[fd00::1]:*"),
        ("[::ffff:192.168.1.201]:22", "192.168.1.201:22"),
        ("192.168.1.201.office:22", "192.168.1.201.office:22"),
        ("remote:*", "remote:*"),
        ("*:22", "*:22"),
        ("remote:00022", "remote:22"),
    ],
)
def test_permitopen_in_canonical_form(text: str, canonical: str) -> None:
    """A permitopen= is kept in the form in which targets are compared."""
    permits = parse(f'permitopen="{text}",permitopen="other:1"').permitopen
    assert permits is not None
    assert [permit.text for permit in permits] == [canonical, "other:1"]


@pytest.mark.parametrize(
    "text",
    [
        "none",
        "",
        ":",
        "remote",
        "remote:",
        ":22",
        "remote:0",
        "remote:65536",
        "remote:ssh",
        "fd00::1:22",
        "a b:22",
        "*.example.com:22",
        "10.1:22",
        "[remote:22",
        "remote:22:22",
        "remote:-1",
        "remote:٢٢",
        "remote/22",
    ],
)
def test_permitopen_that_is_no_host_and_port(text: str) -> None:
    """As in sshd, `none` and every other malformed permitopen= spoil the line."""
    with pytest.raises(InputRejected) as caught:
        parse(f'permitopen="{text}"')
    assert caught.value.hint


def test_lists_are_bounded() -> None:
    """from= and permitopen= hold 256 entries, because each is compared at every judgement."""
    many = ",".join(["10.0.0.1"] * 256)
    assert len(parse(f'from="{many}"').sources) == 256
    with pytest.raises(InputRejected, match="256"):
        parse(f'from="{many},10.0.0.1"')
    with pytest.raises(InputRejected, match="256"):
        parse(",".join(['permitopen="remote:22"'] * 257))


@given(st.text(max_size=80) | st.text('abfrom="\\,=! *?0123:./-[]', max_size=80))
def test_any_text_is_options_or_refused(text: str) -> None:
    """Any text gives options or InputRejected with a cure, nothing else."""
    for value in (text, f'from="{text}"', f'permitopen="{text}"', f'expiry-time="{text}"'):
        try:
            parse(value, offsets=BERLIN)
            authorized_keys_options.advance(value)
        except InputRejected as error:
            assert error.hint

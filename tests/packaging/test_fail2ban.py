"""fail2ban's filter finds our failed log-ins, with the right address, and nothing else."""

import configparser
import re
from pathlib import Path

import pytest

from relay.core.audit.log_lines import event_line, preauth_line
from tests.audit_rows import Relay

FOLDER = Path(__file__).parents[2] / "packaging" / "fail2ban"
# what fail2ban puts in for <HOST>, and its common.conf for the prefix (simplified: date and host are cut off before)
HOST = r"(?P<host>(?:::f{4,6}:)?(?:\d{1,3}\.){3}\d{1,3}|\[?(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F]{0,4}\]?)"
PREFIX = r"(?:\S+ )?(?:(?:relay|relayctl|python3?)(?:\[\d+\])?:? )?"


def filter_of(name="ssh-jump-relay"):
    """The regular expressions of the filter, as fail2ban would compile them."""
    parser = configparser.RawConfigParser()
    parser.read(FOLDER / "filter.d" / f"{name}.conf")
    found = parser["Definition"]

    def compiled(key):
        return [
            re.compile(text.replace("%(__prefix_line)s", PREFIX).replace("<HOST>", HOST))
            for text in found[key].strip().splitlines()
        ]

    return compiled("failregex"), compiled("ignoreregex")


def banned(text):
    """The address that this line counts against, None when it counts against nobody."""
    fail, ignore = filter_of()
    if any(pattern.search(text) for pattern in ignore):
        return None
    return next((found["host"] for pattern in fail if (found := pattern.search(text))), None)


@pytest.mark.parametrize("kind", ["unknown-key", "no-key", "timeout", "junk", "bad-signature", "too-many-keys"])
@pytest.mark.parametrize("address", ["203.0.113.7", "2001:db8::7"])
@pytest.mark.parametrize("login", ["", "7/1a2b3c4d"])
@pytest.mark.parametrize("prefix", ["", "relay: ", "vps relay[123]: ", "vps relayctl[123]: relay: "])
def test_a_failed_login_counts_against_its_address(kind, address, login, prefix):
    """Whatever kind of failure, with and without a name, of both families, under the usual prefixes."""
    text = preauth_line(kind, address, 4242, login=login, fingerprint="SHA256:x", reference="0k3v9x2m4qz")
    assert banned(prefix + text) == address
    assert banned(prefix + preauth_line(kind, address, 4242, login=login)) == address


@pytest.mark.parametrize("event", Relay().day(), ids=lambda event: event.name)
def test_known_people_never_count(event):
    """No line of an event of a proven key (a denied target, a refused shell, an end) counts against anybody."""
    assert banned(f"relay: {event_line(event)}") is None


@pytest.mark.parametrize(
    "text",
    [
        "Connection closed by authenticating user 7/1a2b3c4d 198.51.100.1 port 1 [preauth]",
        "\nConnection closed by 198.51.100.1 port 1 [preauth]",
        "x relay: Connection closed by 198.51.100.1 port 1 [preauth]: junk",
    ],
)
def test_nobody_has_another_one_banned(text):
    """A person or stranger who sends such a line as a version, name, target or key does not make it count."""
    relay = Relay()
    connection = relay.connect(login=text, client_version=text)
    for event in (
        relay.login(connection),
        relay.denied(connection, text, detail=text),
        relay.refused(connection, text),
    ):
        assert banned(f"relay: {event_line(event)}") is None
    said = preauth_line("unknown-key", "203.0.113.7", 4242, login=text, fingerprint=text, reference=text)
    assert banned(said) != "198.51.100.1"


@pytest.mark.parametrize("kind", ["key-untouched", "key-expired", "key-source"])
def test_a_colleagues_mistake_does_not_count(kind):
    """A security key that was not touched and a key that has run out are known keys."""
    assert banned(preauth_line(kind, "203.0.113.7", 4242, login="5/00000000", reference="0k3v9x2m4qz")) is None


def test_the_jail_uses_the_filter():
    """The example jail names this filter and reads the journal."""
    parser = configparser.RawConfigParser()
    parser.read(FOLDER / "jail.d" / "ssh-jump-relay.conf")
    assert parser["ssh-jump-relay"]["filter"] == "ssh-jump-relay"
    assert parser["ssh-jump-relay"]["backend"] == "systemd"

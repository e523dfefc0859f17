"""Log lines of events: one line each for any input, with the address where fail2ban expects it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.audit.event import FIELDS, NAMES, Event
from relay.core.audit.log_lines import Throttle, event_line, preauth_line
from tests.audit_rows import ALICE, BOB, NOON, Relay


def test_a_days_lines():
    """An ordinary day reads like this."""
    relay = Relay()
    day = relay.day()
    alice = day[4].fields
    from_alice = f"alice {ALICE} from 203.0.113.7 port 51234"
    forward, connection = alice["forward"], alice["connection"]
    assert [event_line(event) for event in day] == [
        f"server started: pid 7 version 0.1.0 id {day[0].id}",
        f"site applied: by_uid 0 keys 2 policy 3f2a9c01b7de id {day[1].id}",
        f"key added: by_sudo carol by_uid 0 fingerprint {BOB} person bob id {day[2].id}",
        f"Accepted publickey for alice from 203.0.113.7 port 51234 ssh2: {ALICE} id {connection} login alice "
        "client_version SSH-2.0-OpenSSH_9.2p1",
        f"forward opened: {from_alice} to remote:22 (192.168.1.201:22 in office) id {forward}",
        f"Accepted publickey for bob from 2001:db8::7 port 51234 ssh2: {BOB} id {day[5].fields['connection']} "
        "login bob client_version SSH-2.0-PuTTY_Release_0.81",
        f"forward opened: bob {BOB} from 2001:db8::7 port 51234 to 192.168.1.50:443 (192.168.1.50:443 in office) "
        f"id {day[6].fields['forward']}",
        f"forward denied: {from_alice} to recorder:22 reason deny-rule id {day[7].id}: no",
        f"request refused: {from_alice} channel session id {day[8].id} count 1",
        f"forward closed: {from_alice} to remote:22 (192.168.1.201:22 in office) reason client-closed "
        f"sent 1500 received 2500000 for 61.000 s id {forward}",
        f"connection closed: {from_alice} reason client-closed for 9.000 s id {connection} forwards 1",
    ]


def test_a_zones_lines():
    """A zone that breaks, what it cut, and that it is well again."""
    relay = Relay()
    opened = relay.opened(relay.connect())
    down = relay.event("zone.down", zone="office", reason="interface-missing", detail="there is no interface 'zt0'")
    cut = relay.closed(opened, "overlay-down", obstacle="interface-missing", detail="there is no interface 'zt0'")
    up = relay.event("zone.up", zone="office", duration=61_500_000)
    assert event_line(down) == f"zone down: office reason interface-missing id {down.id}: there is no interface 'zt0'"
    assert event_line(cut).endswith(
        f" id {opened.fields['forward']} obstacle interface-missing: there is no interface 'zt0'"
    )
    assert event_line(up) == f"zone up: office after 61.500 s id {up.id}"


@pytest.mark.parametrize(
    ("kind", "login", "text"),
    [
        (
            "unknown-key",
            "7/1a2b3c4d",
            "Connection closed by authenticating user 7/1a2b3c4d 203.0.113.7 port 4242 [preauth]",
        ),
        ("no-key", "", "Connection closed by {} [preauth]"),
        ("timeout", "", "Timeout before authentication for {} [preauth]"),
        ("junk", "", "Bad protocol from {} [preauth]"),
    ],
)
def test_the_line_of_an_unauthenticated_client(kind, login, text):
    """A failed log-in reads as sshd's does, then says what it was, with which key, and the id that was told."""
    text = text.format("203.0.113.7 port 4242")
    said = preauth_line(kind, "203.0.113.7", 4242, login=login, fingerprint=ALICE, reference="0k3v9x2m4qz")
    assert said == f"{text}: {kind} {ALICE} id 0k3v9x2m4qz"
    assert preauth_line(kind, "203.0.113.7", 4242, login=login) == f"{text}: {kind}"


hostile = st.text(st.one_of(st.characters(), st.sampled_from("\n\r\x1b\u202e \u2028\x00\x9b")), max_size=300)
anything = st.one_of(st.none(), st.booleans(), st.integers(), hostile)


@given(st.sampled_from(sorted(NAMES)), st.dictionaries(st.sampled_from(sorted(FIELDS)), anything, max_size=20), hostile)
def test_whatever_the_fields_are_it_is_one_harmless_line(name, fields, id):
    """No field can end the line, move a cursor or turn the text round, and the line has an end."""
    said = event_line(Event(id, NOON, name, fields))
    assert said.isprintable()
    assert len(said) < 30_000


@given(hostile, hostile, hostile)
def test_the_line_of_an_unauthenticated_client_is_one_printable_line(kind, fingerprint, reference):
    """Lines of unauthenticated clients stay one printable line for any input."""
    assert preauth_line(kind, "203.0.113.7", 1, fingerprint=fingerprint, reference=reference).isprintable()


@given(hostile)
def test_a_text_from_outside_is_one_word(text):
    """A client version or a target full of spaces cannot pass for the rest of the line."""
    relay = Relay()
    connection = relay.connect(client_version=text)
    said = event_line(relay.login(connection))
    assert said.split(" ")[10:12] == ["id", connection["connection"]]
    denied = event_line(relay.denied(relay.connect(), asked=text))
    assert re.search(r" to (\S+) reason deny-rule id ", denied)


def test_unknown_events_have_a_line_too():
    """A name that this program does not know yet is shown with all its fields."""
    assert event_line(Event("x", NOON, "zone.went_down", {"zone": "office", "detail": "gone"})) == (
        "zone went down: zone office id x: gone"
    )


def test_the_throttle_says_what_it_left_out():
    """After a burst of ten, two lines a second pass; the number of dropped lines is reported once."""
    throttle = Throttle(per_second=2, burst=10)
    said = [text for number in range(1000) for text in throttle.lines(NOON, f"line {number}")]
    assert said == [f"line {number}" for number in range(10)]
    assert throttle.lines(NOON + 400_000, "early") == ()
    assert throttle.lines(NOON + 500_000, "later") == ("991 lines left out; the audit log has what they said", "later")
    assert throttle.lines(NOON + 1_000_000, "again") == ("again",)


def test_the_throttle_takes_a_clock_that_goes_back():
    """A clock set back neither opens the gate nor shuts it for ever."""
    throttle = Throttle(per_second=1, burst=1)
    assert throttle.lines(NOON, "one") == ("one",)
    assert throttle.lines(NOON - 10**12, "two") == ()
    assert throttle.lines(NOON - 10**12 + 1_000_000, "three")[-1] == "three"


def test_who_ended_something_is_in_its_line():
    """Lines of a killed connection and its forwards name the administrator and the reason, each as one word."""
    alice = Relay().connect()
    by = {"by_uid": 0, "by_sudo": "carol", "why": "left\nthe company"}
    killed = event_line(Event("0k3v9x2m4qz", NOON, "connection.killed", {**alice, "forwards": 2, **by}))
    assert killed.startswith("connection killed: alice ")
    assert killed.endswith(r" forwards 2 by_uid 0 by_sudo carol why left\x0athe\x20company")

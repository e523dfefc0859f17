"""relay.core.keys.authorized_keys: the keys of an authorized_keys file, and what each may be used for."""

from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.keys import authorized_keys, public_key
from relay.core.policy.model import Decision, Destination, Identity, Reason
from relay.core.policy.target import Target
from relay.errors import InputRejected

FIXTURES = Path(__file__).parents[2] / "fixtures" / "keys"
ED25519 = (FIXTURES / "ed25519.pub").read_text().strip()
RSA_2048 = (FIXTURES / "rsa-2048.pub").read_text().strip()
SK = (FIXTURES / "sk-ed25519.pub").read_text().strip()

OFFICE = Destination("office", ip_address("192.168.1.201"), 22)
HERE = ip_address("203.0.113.9")


def parse(text: str) -> authorized_keys.Key:
    key = authorized_keys.parse_line(text, person="alice", file="keys/alice.pub", line=7)
    assert key is not None
    return key


def resolve(target: Target) -> Destination | Decision:
    """An inventory of one zone: `remote`, `remote.office` and its address are one host."""
    if target.name in ("remote", "remote.office") or (
        target.address == OFFICE.address and target.zone in ("", "office")
    ):
        return replace(OFFICE, port=target.port)
    if target.name == "twice":
        return Decision(reason=Reason.AMBIGUOUS_TARGET)
    if target.address is not None:
        return Destination(target.zone or "office", target.address, target.port)
    return Decision(reason=Reason.UNKNOWN_TARGET)


def reason(
    key: authorized_keys.Key, *, now: int = 0, destination: Destination = OFFICE, **identity: object
) -> Reason | None:
    who = replace(Identity("alice", key.fingerprint, HERE), **identity)  # type: ignore[arg-type]
    refused = authorized_keys.refusal(key, who, destination, now, resolve)
    return None if refused is None else refused[0]


def test_a_line_becomes_a_key() -> None:
    """Options, type, blob and comment of a line, with its place."""
    key = parse(f'  restrict,port-forwarding,from="203.0.113.0/24",no-pty\t {ED25519}\r\n')
    assert (key.algorithm, key.bits, key.comment, key.person, key.place) == (
        "ssh-ed25519",
        256,
        "ed25519-256@fixture",
        "alice",
        "keys/alice.pub:7",
    )
    assert key.fingerprint == public_key.fingerprint(key.blob)
    assert key.forwarding
    assert key.without_effect == ("no-pty",)


@pytest.mark.parametrize("text", ["", "   ", "\t", "# ssh-ed25519 AAAA", "  # x", "\r", "\ufeff# made with an editor"])
def test_empty_lines_and_comments_are_no_keys(text: str) -> None:
    """Nothing, white space and comments give None."""
    assert authorized_keys.parse_line(text, person="a", file="f", line=1) is None


def test_comments_may_hold_anything_and_are_cut() -> None:
    """A comment in any language is kept, up to 255 letters; there may be none."""
    bare = " ".join(ED25519.split()[:2])
    assert parse(bare).comment == ""
    assert parse(f"{bare}   李雷 的 电脑 ").comment == "李雷 的 电脑"
    assert len(parse(f"{bare} {'x' * 999}").comment) == 255


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ssh-ed25519", "nothing follows"),
        ("ssh-ed25519 AAAA", "cut short"),
        (f"ssh-ed25519 {ED25519.split()[1][:40]}", "cut short"),
        (f"ssh-ed25519 {ED25519.split()[1][:41]}", "base64"),
        (f"ssh-rsa {ED25519.split()[1]}", "the key inside is ssh-ed25519"),
        (f"restrict{ED25519}", "not known"),
        ("restrict", "no public key on the line"),
        (f'from="10.0.0.1 {ED25519}', "never closed"),
        (f"no-pty, {ED25519}", "an option was expected"),
        ("hello world", "'world'"),
        (f"cert-authority {ED25519}", "not supported"),
        (f"verify-required {ED25519}", "cannot do"),
        (f"{ED25519}\x00", "control characters"),
        (f"{ED25519} a\x1b[2J", "control characters"),
        (f"{ED25519}\u2028", None),
        (ED25519 + " " + "x" * 20_000, "letters"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "not known"),
    ],
)
def test_a_line_that_is_not_whole_is_refused(text: str, words: str | None) -> None:
    """Broken lines say what is broken, with a cure; odd letters in the comment are no reason."""
    if words is None:
        assert parse(text)
        return
    with pytest.raises(InputRejected, match=words) as caught:
        parse(text)
    assert caught.value.hint


def test_a_broken_line_costs_its_key_only() -> None:
    """The other lines of a file load; each fault names file and line."""
    text = f"# mine\n{ED25519}\nno-touch-required {SK}\nrubbish\n{RSA_2048}\n"
    found, faults, warnings = authorized_keys.parse_file(text, "alice", "keys/alice.pub")
    assert [key.line for key in found] == [2, 5]
    assert [(fault.file, fault.line) for fault in faults] == [("keys/alice.pub", 3), ("keys/alice.pub", 4)]
    assert [(fault.line, "3072" in str(fault)) for fault in warnings] == [(5, True)]


def test_the_same_key_twice_in_a_file() -> None:
    """Equal conditions are a warning; different ones leave open what holds, so the key is out and both lines named."""
    found, faults, warnings = authorized_keys.parse_file(f"{ED25519}\n{ED25519} again\n", "alice", "f")
    assert ([key.line for key in found], faults, [fault.line for fault in warnings]) == ([1], (), [2])
    found, faults, _ = authorized_keys.parse_file(f"{ED25519}\nrestrict {ED25519}\n{SK}", "alice", "f")
    assert ([key.line for key in found], [fault.line for fault in faults]) == ([3], [1, 2])


def test_what_is_hardly_meant_gets_a_warning() -> None:
    """A key that can reach nothing, or get in from nowhere, is taken and said to be so."""
    assert "reach nothing" in authorized_keys.advice(parse(f"restrict {ED25519}"))[0][0]
    assert "no address matches" in authorized_keys.advice(parse(f'from="!10.0.0.1" {ED25519}'))[0][0]
    assert authorized_keys.advice(parse(f'restrict,port-forwarding,from="!10.0.0.1,*" {ED25519}')) == ()


def test_a_plain_key_narrows_nothing() -> None:
    """Without options every destination, source and moment is left to the policy."""
    assert reason(parse(ED25519), now=1 << 40) is None


@pytest.mark.parametrize(("now", "expected"), [(1798675199, None), (1798675200, Reason.KEY_EXPIRED)])
def test_expiry_is_exact_to_the_second(now: int, expected: Reason | None) -> None:
    """From the second named in expiry-time= on the key is refused."""
    assert reason(parse(f'expiry-time="20261231Z" {ED25519}'), now=now) is expected


@pytest.mark.parametrize(
    ("patterns", "address", "admitted"),
    [
        ("203.0.113.9", "203.0.113.9", True),
        ("203.0.113.9", "203.0.113.10", False),
        ("203.0.113.0/24,!203.0.113.9", "203.0.113.8", True),
        ("203.0.113.0/24,!203.0.113.9", "203.0.113.9", False),
        ("!203.0.113.9,203.0.113.0/24", "203.0.113.9", False),
        ("!203.0.113.9", "203.0.113.8", False),
        ("203.0.113.*,2001:db8::/32", "2001:db8::1", True),
        ("!203.0.113.?,*", "203.0.113.9", False),
        ("!203.0.113.?,*", "203.0.113.10", True),
        ("10.0.0.0/8", "::a00:1", False),
    ],
)
def test_from_as_openssh_judges_it(patterns: str, address: str, admitted: bool) -> None:
    """One match admits, one negated match refuses whatever else matches, no match refuses."""
    key = parse(f'from="{patterns}" {ED25519}')
    assert reason(key, source=ip_address(address)) is (None if admitted else Reason.KEY_SOURCE)


@pytest.mark.parametrize(
    ("permits", "allowed"),
    [
        (["remote:22"], True),
        (["REMOTE.:22"], True),
        (["remote.office:22"], True),
        (["192.168.1.201:22"], True),
        (["192.168.1.201.office:22"], True),
        (["[::ffff:192.168.1.201]:22"], True),
        (["remote:*"], True),
        (["*:22"], True),
        (["*:*"], True),
        (["other:1", "remote:22"], True),
        (["remote:23"], False),
        (["192.168.1.200:22"], False),
        (["192.168.1.201.branch:22"], False),
        (["unknown:22"], False),
        (["twice:22"], False),
        (["*:23"], False),
    ],
)
def test_permitopen_is_compared_as_destination(permits: list[str], allowed: bool) -> None:
    """However host and target were spelt, the judged destination decides; what resolves to nothing permits nothing."""
    key = parse(",".join(f'permitopen="{permit}"' for permit in permits) + f" {ED25519}")
    assert reason(key) is (None if allowed else Reason.KEY_PERMITOPEN)


def test_keys_that_may_not_forward() -> None:
    """restrict alone, and no-port-forwarding, refuse every forward."""
    for options in ("restrict", "no-port-forwarding", "port-forwarding,no-port-forwarding"):
        assert reason(parse(f"{options} {ED25519}")) is Reason.KEY_NO_FORWARDING
    assert reason(parse(f"restrict,port-forwarding {ED25519}")) is None


def test_security_keys_attest_a_touch_and_a_user_when_asked() -> None:
    """An sk- key without the touch is refused always, without a verified user when verify-required stands there."""
    assert reason(parse(SK)) is Reason.KEY_PRESENCE
    assert reason(parse(SK), touched=True) is None
    verify = parse(f"verify-required {SK}")
    assert reason(verify, touched=True) is Reason.KEY_PRESENCE
    assert reason(verify, verified=True) is Reason.KEY_PRESENCE
    assert reason(verify, touched=True, verified=True) is None


def test_a_log_in_is_judged_without_a_destination() -> None:
    """Expiry, source and presence count at log-in already; what limits forwards does not."""
    who = Identity("alice", "", HERE)
    assert authorized_keys.login_refusal(parse(f"restrict {ED25519}"), who, 0) is None
    refused = authorized_keys.login_refusal(parse(f'expiry-time="20200101" {ED25519}'), who, 1 << 31)
    assert refused is not None
    assert refused[0] is Reason.KEY_EXPIRED
    assert "keys/alice.pub:7" in refused[1]


@given(st.text(max_size=300) | st.binary(max_size=300).map(lambda data: data.decode("utf-8", "replace")))
def test_any_line_is_a_key_nothing_or_refused(text: str) -> None:
    """Any text gives a key, None or InputRejected with a cure; in a file the same, and never an exception."""
    for line in (text, f"{text} {ED25519}", f"{ED25519} {text}", f'from="{text}" {SK}'):
        try:
            key = authorized_keys.parse_line(line, person="a", file="f", line=1)
        except InputRejected as error:
            assert error.hint
        else:
            assert key is None or key.fingerprint == public_key.fingerprint(key.blob)
        authorized_keys.parse_file(line, "a", "f")


@given(st.text(min_size=1, max_size=60))
def test_no_options_do_away_with_the_touch(text: str) -> None:
    """Whatever stands in front of a security key, its signature must attest a touch."""
    try:
        key = authorized_keys.parse_line(f"{text} {SK}", person="a", file="f", line=1)
    except InputRejected:
        return
    if key is not None:
        assert reason(key) is not None


def test_one_person_has_a_bounded_number_of_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the last key that is taken a file is not read; the fault says so."""
    monkeypatch.setattr(authorized_keys, "FILE_KEYS_MOST", 1)
    found, faults, _ = authorized_keys.parse_file(f"{ED25519}\n{RSA_2048}\nrubbish", "alice", "f")
    assert ([key.line for key in found], [fault.line for fault in faults]) == ([1], [2])

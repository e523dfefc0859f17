"""relay.core.keys.keyring: how the applied keys and those of the files are combined, and how they are shipped."""

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.keys import authorized_keys, keyring
from relay.core.keys.keyring import Keyring, RevokedLine
from relay.errors import Fault, InputRejected

FIXTURES = Path(__file__).parents[2] / "fixtures" / "keys"
OPTIONS = (
    'from="10.0.0.0/8,!10.0.0.1,192.168.1.*,fd00::/8",expiry-time="20300101",permitopen="remote:22",'
    'permitopen="[fd00::1]:*",permitopen="192.168.1.201.office:22",permitopen="*:22",no-pty,port-forwarding '
)


def key(name: str, person: str, options: str = "") -> authorized_keys.Key:
    text = options + (FIXTURES / f"{name}.pub").read_text()
    made = authorized_keys.parse_line(text, person=person, file=f"keys/{person}.pub", line=1)
    assert made is not None
    return made


def ring(*held: authorized_keys.Key, revoked: tuple[authorized_keys.Key, ...] = ()) -> Keyring:
    return Keyring(
        MappingProxyType({one.fingerprint: one for one in held}),
        MappingProxyType({one.fingerprint: RevokedLine(one.fingerprint, line=1) for one in revoked}),
    )


ALICE = key("ed25519", "alice", OPTIONS)
ALICE_2 = key("rsa-3072", "alice", "restrict ")
BOB = key("ecdsa-256", "bob")
CAROL = key("sk-ed25519", "carol", "verify-required ")


def test_the_zero_value_accepts_no_key() -> None:
    """An empty keyring has no keys and no revocations."""
    assert (dict(Keyring().keys), Keyring().revoked) == ({}, frozenset())


def test_narrowing_only_takes_away() -> None:
    """What is gone from the files goes; what is new there, or has other options, does not come."""
    looser = replace(ALICE, sources=())
    got = keyring.narrowed(ring(ALICE, BOB), ring(looser, CAROL))
    assert dict(got.keys) == {ALICE.fingerprint: ALICE}


def test_a_key_that_changed_hands_is_out_until_reload() -> None:
    """A key now in another person's file gets in for neither of them by narrowing."""
    assert not keyring.narrowed(ring(ALICE), ring(replace(ALICE, person="bob"))).keys


def test_a_revoked_key_is_out_even_if_the_files_list_it() -> None:
    """Revocations of the files count, and those applied already keep counting when their line is gone."""
    assert not keyring.narrowed(ring(ALICE), ring(ALICE, revoked=(ALICE,))).keys
    once = keyring.narrowed(ring(ALICE), ring(revoked=(ALICE,)))
    again = keyring.with_persons(once, ring(ALICE), ["alice"])
    assert (dict(again.keys), again.revoked) == ({}, {ALICE.fingerprint})


def test_for_named_persons_the_files_are_the_law() -> None:
    """Keys of the named persons are replaced by the files; for others only removals apply."""
    looser = replace(ALICE, sources=())
    got = keyring.with_persons(ring(ALICE, BOB), ring(looser, ALICE_2, CAROL), ["alice"])
    assert set(got.keys.values()) == {looser, ALICE_2}


def test_shipping_keeps_everything() -> None:
    """load(dump(x)) is x, with every option, revocation, fault and warning."""
    whole = replace(
        ring(ALICE, ALICE_2, BOB, CAROL, revoked=(key("rsa-2048", "dave"),)),
        faults=(Fault("keys/x.pub", 3, "what", "cure"),),
        warnings=(Fault("keys/y.pub", 0, "what"),),
        shut=True,
    )
    loaded = keyring.load(keyring.dump(whole))
    assert loaded == whole
    assert loaded.version == whole.version
    assert loaded.of("alice") == tuple(one for one in loaded.keys.values() if one.person == "alice")


def test_the_version_is_about_who_gets_in() -> None:
    """Faults do not change it; a key, an option or a revocation does."""
    base = ring(ALICE, BOB)
    assert replace(base, faults=(Fault("a", 1, "b"),)).version == base.version == ring(BOB, ALICE).version
    others = [ring(ALICE), ring(replace(ALICE, sources=()), BOB), ring(ALICE, BOB, revoked=(CAROL,))]
    assert len({base.version, *(other.version for other in others)}) == 4


@given(st.text(max_size=60) | st.lists(st.none() | st.text(max_size=9) | st.integers()).map(keyring._json))
def test_any_shipped_line_is_taken_or_refused(line: str) -> None:
    """A line that dump does not write raises InputRejected, nothing else."""
    loader = keyring.KeyringLoader()
    try:
        loader.feed(line)
    except InputRejected as error:
        assert error.hint


@pytest.mark.parametrize("cut", range(2, 16))
def test_a_short_row_is_refused(cut: int) -> None:
    """A key's row that lacks a field is refused, not half taken."""
    import json

    (row,) = (json.loads(line) for line in keyring.dump(ring(ALICE)))
    with pytest.raises(InputRejected):
        keyring.KeyringLoader().feed(json.dumps(row[:cut]))

"""Log-in: only the holder of a listed key, by a signature for exactly this log-in."""

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

from tests.relay_process import Relay, make_key, wait_for
from tests.serve import hostile
from tests.serve.hostile import Client, Gone, load_key, public_blob, string, uint32

pytestmark = pytest.mark.xdist_group("serve-login")

FIXTURES = Path(__file__).parents[1] / "fixtures" / "keys"


def logins(one: Relay) -> int:
    """How many log-ins are on record."""
    return len(one.rows("login.succeeded"))


def verdict(client: Client, request: bytes) -> bool:
    """Whether that request logs in."""
    client.send(request)
    return client.expect(hostile.USERAUTH_SUCCESS, hostile.USERAUTH_FAILURE)[0] == hostile.USERAUTH_SUCCESS


def rsa_person(one: Relay, name: str, bits: int) -> RSAPrivateKey:
    """A person with an RSA key, let in at once."""
    key = generate_private_key(65537, bits)
    line = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    (one.site / "keys" / f"{name}.pub").write_text(f"{line} {name}@test\n")
    one.ctl("reload")
    return key


def test_an_offer_is_no_log_in(one: Relay) -> None:
    """CVE-2024-45337: having offered alice's key, nothing is open and nobody else's signature counts for her."""
    other = load_key_of(one, "mallory-unlisted")
    before = logins(one)
    with Client(one.port) as client:
        client.service()
        assert client.offer("alice", public_blob(load_key(one.key)))
        assert not verdict(client, client.signed("alice", other))
        assert client.offer("alice", public_blob(load_key(one.key)))
        client.send(client.ask("remote", 2000)[1])
        assert client.gone() == "protocol error"
    assert logins(one) == before


def load_key_of(one: Relay, name: str) -> hostile.Key:
    """A key that nobody has listed."""
    path = one.directory / name
    if not path.exists():
        make_key(path)
    return load_key(path)


def test_the_identity_is_the_key_that_signed_not_the_last_offered(one: Relay) -> None:
    """A signature of alice logs in alice, although bob's key was offered before and is offered after."""
    one.person("bob")
    one.ctl("reload")
    bob = public_blob(load_key(one.directory / "bob"))
    with Client(one.port) as client:
        client.service()
        assert client.offer("bob", bob)
        request = client.signed("bob", load_key(one.key))
        client.send(request)
        assert client.expect(hostile.USERAUTH_SUCCESS, hostile.USERAUTH_FAILURE)[0] == hostile.USERAUTH_SUCCESS
        # an offer after the success is ignored (RFC 4252 5.3)
        client.send(client.request("bob", "publickey", b"\0" + string("ssh-ed25519") + string(bob)))
        client.refused("nowhere", 22)
    row = wait_for(lambda: [row for row in one.rows("login.succeeded") if row["login"] == "bob"], "no log-in")[-1]
    assert row["person"] == "alice"


def test_a_signature_made_for_one_user_name_is_no_good_for_another(one: Relay) -> None:
    """The signed text names the user: a signature for `u` does not complete as `zz` (asyncssh before 2.24.1)."""
    key = load_key(one.key)
    with Client(one.port) as client:
        client.service()
        assert not verdict(client, client.signed("zz", key, signed_user="u"))
        assert not verdict(client, client.signed("alice", key, signed_user="alice2"))
        assert verdict(client, client.signed("alice", key))


def test_the_user_name_may_change_and_nothing_is_carried_over(one: Relay) -> None:
    """A proof for one user name is forgotten with the next; the last name is recorded."""
    key = load_key(one.key)
    with Client(one.port) as client:
        client.service()
        for name in ("root", "carol", "alice", "x" * 200, "dave"):
            assert client.offer(name, public_blob(key))
            client.send(client.request(name + "x", "none"))
            client.expect(hostile.USERAUTH_FAILURE)
        assert verdict(client, client.signed("last", key))
    wait_for(lambda: [row for row in one.rows("login.succeeded") if row["login"] == "last"], "no log-in")


def test_a_signature_of_another_session_is_no_good(one: Relay) -> None:
    """A signature is bound to its key exchange: replayed in a second connection it is refused."""
    key = load_key(one.key)
    with Client(one.port) as first, Client(one.port) as second:
        first.service()
        second.service()
        assert not verdict(second, first.signed("alice", key))


@pytest.mark.parametrize("spoil", ["cut", "longer", "flipped", "empty", "algorithm", "rest"])
def test_spoilt_signatures_are_refused(one: Relay, spoil: str) -> None:
    """A change in any byte of the request or signature is refused, and the connection continues."""
    key = load_key(one.key)
    with Client(one.port) as client:
        client.service()
        good = client.signed("alice", key)
        bad = {
            "cut": good[:-1],
            "longer": good + b"\0",
            "flipped": good[:-1] + bytes([good[-1] ^ 1]),
            "empty": client.request("alice", "publickey", b"\1" + string("ssh-ed25519") + string(public_blob(key)))
            + string(b""),
            "algorithm": good.replace(
                string("ssh-ed25519") + string(good[-64:]), string("ssh-rsa") + string(good[-64:])
            ),
            "rest": good.replace(b"publickey", b"PUBLICKEY"),
        }[spoil]
        try:
            assert not verdict(client, bad)
        except Gone as end:
            assert str(end) == "protocol error"


def test_too_many_bad_signatures_end_the_connection(one: Relay) -> None:
    """As sshd's MaxAuthTries: the sixth bad signature of a known key is the last."""
    key = load_key(one.key)
    with Client(one.port) as client:
        client.service()
        tries = 0
        with pytest.raises(Gone, match="too many authentication failures"):
            for _ in range(20):
                assert not verdict(client, client.signed("x", key, signed_user="y"))
                tries += 1
        assert tries <= 6


def test_rsa_signs_with_sha2_only(one: Relay) -> None:
    """An RSA key of 2048 bits logs in with rsa-sha2-256 and -512, never with SHA-1."""
    key = rsa_person(one, "rsa", 2048)
    with Client(one.port) as client:
        client.service()
        assert not verdict(client, client.signed("rsa", key, "ssh-rsa"))
        # the algorithm named outside may lie about the one inside
        lie = client.signed("rsa", key, "ssh-rsa").replace(
            b"\1" + string("ssh-rsa") + string(public_blob(key)),
            b"\1" + string("rsa-sha2-256") + string(public_blob(key)),
        )
        assert not verdict(client, lie)
    for algorithm in ("rsa-sha2-256", "rsa-sha2-512"):
        with Client(one.port) as client:
            client.login("rsa", key, algorithm)


def test_short_rsa_keys_and_dsa_are_out(one: Relay) -> None:
    """An RSA key under 2048 bits is as if it were not listed."""
    key = rsa_person(one, "short", 1024)
    with Client(one.port) as client:
        client.service()
        assert not client.offer("short", public_blob(key), "rsa-sha2-256")
        assert not verdict(client, client.signed("short", key, "rsa-sha2-256"))
        dsa = base64.b64decode((FIXTURES / "dsa.pub").read_text().split()[1])
        assert not client.offer("short", dsa, "ssh-dss")
    (one.site / "keys" / "short.pub").unlink()


def test_a_certificate_is_never_taken_where_a_key_is_expected(one: Relay) -> None:
    """Teleport CVE-2025-49825: offered and signed, certified or made up, a certificate is an unknown key."""
    certificate = base64.b64decode((FIXTURES / "ed25519-cert.pub").read_text().split()[1])
    key = load_key(one.key)
    public = public_blob(key)[-32:]
    # one around alice's own listed key, signed by herself as CA, good for ever and for everybody
    body = (
        string("ssh-ed25519-cert-v01@openssh.com")
        + string(bytes(32))
        + string(public)
        + bytes(8)
        + uint32(1)
        + string("id")
        + string("")
        + bytes(8)
        + b"\xff" * 8
        + string("")
        + string("")
        + string("")
        + string(public_blob(key))
    )
    assert not isinstance(key, RSAPrivateKey)
    own = body + string(string("ssh-ed25519") + string(key.sign(body)))
    kind = "ssh-ed25519-cert-v01@openssh.com"
    with Client(one.port) as client:
        client.service()
        for blob in (certificate, own):
            assert not client.offer("alice", blob, kind)
            assert not client.offer("alice", blob, "ssh-ed25519")
            rest = b"\1" + string(kind) + string(blob)
            signature = key.sign(string(client.session) + client.request("alice", "publickey", rest))
            bad = client.request("alice", "publickey", rest + string(string("ssh-ed25519") + string(signature)))
            assert not verdict(client, bad)


def test_a_key_revoked_between_offer_and_signature_does_not_log_in(one: Relay) -> None:
    """Whether a key is listed is asked again at the signature."""
    one.person("eve")
    one.ctl("reload")
    key = load_key(one.directory / "eve")
    with Client(one.port) as client:
        client.service()
        assert client.offer("eve", public_blob(key))
        (one.site / "keys" / "eve.pub").unlink()
        one.wait_row("key.removed")
        assert not verdict(client, client.signed("eve", key))


def test_user_names_may_hold_anything(one: Relay) -> None:
    """Control characters, other scripts and long names are recorded escaped, and have no other effect."""
    key = load_key(one.key)
    for name in ("\u4e2d\u6587", "a b", "x" * 300, "'; drop table events;--"):
        with Client(one.port) as client:
            client.login(name, key)
            client.refused("nowhere", 22)
    for name in ("new\nline", "\x1b[2J", "nul\0"):
        with Client(one.port) as client:
            client.service()
            try:
                client.send(client.signed(name, key))
                client.expect(hostile.USERAUTH_SUCCESS, hostile.USERAUTH_FAILURE)
            except Gone:
                continue
    assert "\x1b" not in one.log()


def test_requests_after_log_in_change_no_identity(one: Relay) -> None:
    """Authentication requests after the log-in are ignored or end the connection; the identity stays."""
    one.person("frank")
    one.ctl("reload")
    with Client(one.port) as client:
        client.login("alice", load_key(one.key))
        client.send(client.signed("frank", load_key(one.directory / "frank")))
        client.refused("nowhere", 22)
        client.send(client.signed("frank", load_key(one.directory / "frank")))
        assert client.gone() == "protocol error"
    assert not [row for row in one.rows("login.succeeded") if row["person"] == "frank"]


def test_the_kbdint_round_never_succeeds(one: Relay) -> None:
    """The round that names the unknown key has no prompt, and no answer to it logs in."""
    with Client(one.port) as client:
        client.service()
        assert not client.offer("alice", string("ssh-ed25519") + string(bytes(range(32))))
        client.send(client.request("alice", "keyboard-interactive", string("") + string("")))
        told = client.expect(hostile.INFO_REQUEST, hostile.USERAUTH_FAILURE)
        assert told[0] == hostile.INFO_REQUEST
        assert b"SHA256:" in told
        for answer in (uint32(0), uint32(1) + string("yes"), uint32(0xFFFFFFFF)):
            try:
                client.send(bytes([hostile.INFO_RESPONSE]) + answer)
                assert client.expect(hostile.USERAUTH_SUCCESS, hostile.USERAUTH_FAILURE)[0] == hostile.USERAUTH_FAILURE
            except Gone as end:
                assert str(end) == "protocol error"
                break

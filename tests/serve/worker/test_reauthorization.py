"""Re-authorization: exactly the connections and forwards that are no longer allowed end, with a reason."""

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from pathlib import Path

from relay.core.keys.authorized_keys import Key
from relay.core.keys.keyring import Keyring
from relay.core.policy.model import Destination, Identity, Rule, Zone
from relay.core.policy.policy import build_policy
from relay.net.kernel import netlink
from relay.serve.authorizer import Authorizer
from relay.serve.worker.reauthorization import TURN, LoopSlices, Reauthorization
from tests.relay_process import POLICY, Relay, echo_server, make_key, relay
from tests.serve import hostile
from tests.serve.hostile import Client, load_key, public_blob
from tests.serve.test_dialling import asked, silent_target
from tests.serve.worker import parts


def logged_in(one: Relay, person: str = "alice") -> Client:
    """That person's connection."""
    return Client(one.port).login(person, load_key(one.directory / person))


def expire(one: Relay, person: str, seconds: float) -> float:
    """Let that person's key end so many seconds from now, in Unix time."""
    end = int(time.time() + seconds) + 1
    stamp = datetime.fromtimestamp(end, UTC).strftime("%Y%m%d%H%M%SZ")
    fresh = one.directory / "expiring"  # moved into its place: half a file would be a key that has gone
    fresh.write_text(f'expiry-time="{stamp}" {(one.directory / f"{person}.pub").read_text()}')
    fresh.rename(one.site / "keys" / f"{person}.pub")
    one.ctl("reload")
    return end


def test_an_expired_key_ends_its_connections_and_forwards(one: Relay, echo: int) -> None:
    """An idle connection, an open forward and a dial end within a second, with the reason told and recorded."""
    one.person("bob")
    one.policy(POLICY.replace("[alice]", "[alice, bob]"))
    one.ctl("reload")
    with (
        silent_target() as (port, _),
        logged_in(one, "bob") as idle,
        logged_in(one, "bob") as flowing,
        logged_in(one, "bob") as dialling,
        logged_in(one) as alice,
    ):
        number, channel = alice.open("remote", echo)
        flowing.open("remote", echo)
        dialling.send(dialling.ask("remote", port)[1])
        asked(one, port)
        end = expire(one, "bob", 1.0)
        applied = time.time()
        for client in (idle, flowing, dialling):
            assert client.gone().startswith("relay: your key has expired (id ")
        assert end <= time.time() < max(end, applied) + 3  # a second, and a busy machine
        assert one.wait_row("forward.closed", port=port, person="bob")["reason"] == "key-expired"
        assert one.wait_row("forward.closed", port=echo, person="bob")["reason"] == "key-expired"
        alice.write(channel, b"alive")
        assert alice.read(number, 5) == b"alive"
    one.policy(POLICY)
    (one.site / "keys" / "bob.pub").unlink()
    one.ctl("reload")


def test_a_rule_that_expires_during_a_dial_opens_nothing(one: Relay, echo: int) -> None:
    """`until` passes while the target is silent: the client gets the reason, and the connection continues."""
    with silent_target() as (port, _), logged_in(one) as alice:
        number, packet = alice.ask("remote", port)
        alice.send(packet)
        asked(one, port)
        end = datetime.fromtimestamp(int(time.time()) + 3, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        rule = f'  - {{name: brief, allow: [alice], to: [remote], ports: [{port}], until: "{end}"}}\n'
        others = POLICY.replace('"1024-65535"', f'"1024-{port - 1}", "{port + 1}-65535"')
        one.policy(others + rule)
        one.ctl("reload")
        answer = alice.answer(number)
        assert answer[0] == hostile.OPEN_FAILURE
        assert b"you may not reach that any more" in answer
        assert one.wait_row("forward.closed", port=port)["reason"] == "no-rule"
        alice.echo("remote", echo)
    one.policy(POLICY)
    one.ctl("reload")


def test_only_the_forward_that_is_no_longer_allowed_ends(one: Relay, echo: int) -> None:
    """Of two forwards of one connection the denied one is closed, and the other one continues."""
    with echo_server() as other, logged_in(one) as alice:
        forbidden, _ = alice.open("remote", other)
        number, channel = alice.open("remote", echo)
        one.policy(POLICY.replace('"1024-65535"', f'"{echo}"'))
        one.ctl("reload")
        assert int.from_bytes(alice.expect(hostile.CLOSE)[1:5], "big") == forbidden
        alice.write(channel, b"alive")
        assert alice.read(number, 5) == b"alive"
        assert one.wait_row("forward.closed", port=other, reason="no-rule")["detail"].startswith("no rule allows")
    one.policy(POLICY)
    one.ctl("reload")


def test_a_zone_that_moves_to_another_path_ends_its_forwards() -> None:
    """The target is still allowed, but by another interface or gateway than the socket's, so the forward must end."""
    authorizer = Authorizer(lambda: None)
    zone = Zone("office", (ip_network("192.168.1.0/24"),), "zt0", ip_address("172.18.0.200"))
    rule = Rule("all", True, frozenset(), True, frozenset(), (("office", zone.networks[0]),), ((22, 22),))
    authorizer.policy = build_policy(version="1", zones=[zone], hosts=[], groups={}, rules=[rule])
    key = Key("SHA256:x", "ssh-ed25519", 256, "", b"", "alice", file="keys/alice.pub", line=1)
    authorizer.keyring = Keyring({key.fingerprint: key})
    identity = Identity("alice", key.fingerprint, ip_address("203.0.113.7"))
    to = Destination("office", ip_address("192.168.1.201"), 22)
    try:
        assert authorizer.key_revocation(identity) is None
        assert authorizer.revocation(identity, to, zone) is None
        assert authorizer.revocation(identity, to, None) is None  # not dialled yet
        for other in (replace(zone, interface="zt1"), replace(zone, gateway=None)):
            moved = authorizer.revocation(identity, to, other)
            assert moved is not None
            assert moved.reason == "policy-changed"
        beyond = authorizer.revocation(identity, replace(to, port=23), zone)
        assert beyond is not None
        assert beyond.reason == "no-rule"
    finally:
        netlink.close_thread_socket()


def test_a_revoked_key_is_called_revoked(one: Relay, echo: int) -> None:
    """The rows distinguish a revoked key from a removed one."""
    one.person("dan")
    one.policy(POLICY.replace("[alice]", "[alice, dan]"))
    one.ctl("reload")
    with logged_in(one, "dan") as dan:
        dan.open("remote", echo)
        one.ctl("revoke-key", "dan")
        assert "your key is no longer accepted" in dan.gone()
    assert one.wait_row("forward.closed", person="dan")["reason"] == "key-revoked"
    assert one.wait_row("connection.closed", person="dan")["reason"] == "key-revoked"
    one.policy(POLICY)
    one.ctl("reload")


def test_a_key_that_changes_hands_ends_its_connections(one: Relay) -> None:
    """When a key is listed for another person, the connections of its former owner end."""
    line = one.person("eva")
    one.ctl("reload")
    with logged_in(one, "eva") as eva:
        (one.site / "keys" / "eva.pub").unlink()
        (one.site / "keys" / "frank.pub").write_text(line + "\n")
        one.ctl("reload")
        assert "your key is no longer accepted" in eva.gone()
    (one.site / "keys" / "frank.pub").unlink()
    one.ctl("reload")


def test_no_revocation_slips_through_a_log_in(tmp_path: Path) -> None:
    """A key revoked before its offer, before its signature, or just after it leaves no connection."""
    with relay(tmp_path, settings="workers: 1\n") as one:
        for person in ("gus", "hal", "ida"):
            make_key(one.directory / person)
            (one.site / "keys" / f"{person}.pub").write_text((one.directory / f"{person}.pub").read_text())
        one.ctl("reload")
        clients = []
        for moment, person in enumerate(("gus", "hal", "ida")):
            key = load_key(one.directory / person)
            client = Client(one.port)
            client.service()
            if moment:
                assert client.offer(person, public_blob(key))
            signed = client.signed(person, key)
            if moment == 2:
                client.send(signed)
            clients.append((client, signed, moment))
            one.ctl("revoke-key", person)
        for client, signed, moment in clients:
            with client:
                if moment < 2:
                    client.send(signed)
                answer = client.expect(hostile.USERAUTH_FAILURE, hostile.USERAUTH_SUCCESS)[0]
                if answer == hostile.USERAUTH_SUCCESS:
                    assert moment == 2
                    assert "your key is no longer accepted" in client.gone()


async def test_a_long_check_lets_other_work_run() -> None:
    """A task of many steps lets the rest of the loop run about every millisecond."""
    turns = LoopSlices()
    longest = 0.0

    async def beat() -> None:
        nonlocal longest
        while True:
            before = time.thread_time()
            await asyncio.sleep(0)
            longest = max(longest, time.thread_time() - before)

    beating = asyncio.create_task(beat())
    for _ in range(400):
        until = time.thread_time() + 0.0002  # processor time: what others on the machine do does not count
        while time.thread_time() < until:
            pass
        await turns.rest()
    beating.cancel()
    assert 0 < longest < TURN + 0.002


async def test_a_session_with_many_forwards_is_checked_in_slices() -> None:
    """However many forwards one session has (`forwards_per_connection`), other work is done between them."""
    zone = Zone("office", (ip_network("192.168.1.0/24"),), "zt0", ip_address("172.18.0.200"))
    with parts.context(parts.allow(zone), zone=zone) as context, parts.connection() as connection:
        session = parts.session(context, connection)
        for number in range(2000):
            session.forward(b"192.168.1.201", 22, 1 << 16).close()
            forward = session.held()[-1]
            forward.destination = Destination("office", ip_address(f"192.168.1.{number % 200 + 1}"), 22)
        bugs: list[BaseException] = []
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        beating = asyncio.create_task(others())
        reauthorization = Reauthorization(lambda: [session], bugs.append)
        try:
            began = time.thread_time()
            await reauthorization.check_all()
            took = time.thread_time() - began
            assert not bugs
            assert turns >= took / (TURN + 0.002), f"{turns} turns in {took:.3f} s"
            assert all(forward.revocation() is None for forward in session.held())
            assert not any(forward._end for forward in session.held())
            context.authorizer.policy = replace(context.authorizer.policy, version="")  # nothing is allowed any more
            await reauthorization.check_all()
            assert not bugs
            assert all(forward._end for forward in session.held())
        finally:
            beating.cancel()


async def test_a_bug_in_one_session_ends_that_session_alone() -> None:
    """The others are checked all the same, and the bug is reported."""
    bugs: list[BaseException] = []
    with parts.context(parts.allow(parts.HERE)) as context, parts.connection() as connection:
        broken, other = parts.session(context, connection), parts.session(context, connection)
        broken.identity = None  # type: ignore[assignment]  # a state that cannot be
        context.authorizer.keyring = Keyring()
        await Reauthorization(lambda: [broken, other], bugs.append).check_all()
        assert [type(bug) for bug in bugs] == [AttributeError]
        assert (broken._end, other._end) == ("internal-error", "key-unlisted")

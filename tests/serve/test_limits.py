"""Limits of known persons at a real relay: exact, explained to the person, recorded, and shown."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.relay_process import Relay, echo_server, relay, wait_for
from tests.serve import hostile
from tests.serve.hostile import Client, load_key

pytestmark = pytest.mark.xdist_group("serve-limits")

SETTINGS = """\
workers: 2
limits: {connections_per_person: 3, forwards_per_person: 4, scan_targets: 10, scan_freeze: 1h}
penalties: {exempt: []}
"""
POLICY = """\
zones:
  here: {networks: [127.0.0.0/8], interface: lo}
hosts:
  remote: {address: 127.0.0.2, zone: here, user: tester}
rules:
  - {name: all, allow: [alice, bob, carol], to: [remote], ports: ["1024-65535"]}
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """A running relay with little room."""
    with relay(tmp_path_factory.mktemp("relay"), POLICY, SETTINGS) as shared:
        for person in ("bob", "carol", "dora"):
            shared.person(person)
        shared.ctl("reload")
        yield shared
        assert "a bug of ours" not in shared.log(), shared.log()[-5000:]


def login(one: Relay, person: str) -> Client:
    """A connection of that person."""
    return Client(one.port).login(person, load_key(one.directory / person))


def use(one: Relay, limit: str) -> dict[str, object]:
    """What `doctor --limits` says of one limit."""
    return next(row for row in json.loads(one.ctl("doctor", "--limits", "--json")) if row["limit"] == limit)


def test_connections_per_person_are_exact_and_explained(small: Relay) -> None:
    """The fourth of a person is told to end one, in whichever worker; when one has ended another gets in."""
    clients = [login(small, "alice") for _ in range(3)]
    try:
        wait_for(lambda: use(small, "connections_per_person")["used"] == 3, "they are not counted")
        assert use(small, "connections_per_person")["by"] == "alice"
        fourth = login(small, "alice")
        clients.append(fourth)
        assert "as many connections open as one person may" in fourth.gone()
        row = small.wait_row("limit.reached", kind="connections")
        assert (row["person"], row["reason"]) == ("alice", "person")
        small.wait_row("connection.closed", reason="too-many-connections")
        clients.pop(0).sock.close()
        wait_for(lambda: use(small, "connections_per_person")["used"] == 2, "the place is not free")
        login(small, "alice").sock.close()
        login(small, "bob").sock.close()
    finally:
        for client in clients:
            client.sock.close()


def test_a_forward_over_the_limit_says_whose_limit(small: Relay, echo: int) -> None:
    """The fifth forward of a person is refused in words, the others go on, and one row a minute is on record."""
    with login(small, "bob") as first, login(small, "bob") as second:
        for client in (first, first, second, second):
            client.open("remote", echo)
        for client in (first, second, second):
            code, text = client.refused("remote", echo)
            assert code == hostile.PROHIBITED
            assert "as many forwards open as one person may" in text
        first.send(bytes([hostile.CLOSE]) + hostile.uint32(0))
        small.wait_row("limit.reached", kind="forwards_per_person")
        rows = [row for row in small.rows("limit.reached") if row["kind"] == "forwards_per_person"]
        assert len(rows) == 1
        assert use(small, "forwards_per_target")["used"] in (3, 4)


def test_a_scan_freezes_the_key_and_unban_thaws_it(small: Relay, echo: int) -> None:
    """Ten denied targets: all connections of the key end with the reason, no new one gets in, until it is thawed."""
    with login(small, "carol") as client, login(small, "carol") as other, login(small, "alice") as neighbour:
        other.open("remote", echo)
        for number in range(10):
            client.refused(f"192.168.7.{number}", 22)
        assert "your key is frozen" in other.gone()
        assert "your key is frozen" in client.gone()
        neighbour.echo("remote", echo)
    row = small.wait_row("scan.seen", person="carol")
    assert row["count"] == 10
    small.wait_row("forward.closed", person="carol", reason="key-frozen")
    done = small.ssh("relay", person="carol")
    assert done.returncode != 0
    with Client(small.port) as client:
        client.service()
        client.send(client.signed("carol", load_key(small.directory / "carol")))
        assert client.expect(hostile.USERAUTH_SUCCESS, hostile.USERAUTH_FAILURE)[0] == hostile.USERAUTH_FAILURE
    assert "carol" in small.ctl("bans")
    assert "forgiven: SHA256:" in small.ctl("unban", "carol")
    small.wait_row("key.thawed", person="carol", reason="lifted")
    with login(small, "carol") as client:
        client.echo("remote", echo)


def test_what_is_used_is_shown(small: Relay) -> None:
    """Every limit has its line, with how much of it is used."""
    said = small.ctl("doctor", "--limits")
    for limit in ("unauthenticated", "handshakes", "forwards_per_key", "dials", "buffers"):
        assert f"\n{limit} " in said
    assert "100/s" in said
    assert any(line.split() == ["rate_per_person", "none"] for line in said.splitlines())


@pytest.mark.parametrize("workers", [1, 2])
def test_a_persons_rate_holds_over_all_forwards_and_workers(tmp_path: Path, workers: int) -> None:
    """2 MiB a second for alice, in however many forwards and workers; bob's is his own; use is shown."""
    import threading
    import time

    settings = f"workers: {workers}\nlimits: {{rate_per_person: 2MiB}}\n"
    seconds, warm = 4.0, 2.0
    over = threading.Event()
    count = {"alice": 0, "bob": 0}

    def carry(one: Relay, person: str, port: int) -> None:
        with Client(one.port).login(person, load_key(one.directory / person)) as client:
            number, channel = client.open("remote", port, window=1 << 31)
            while not over.is_set():
                client.write(channel, bytes(1 << 15))
                client.read(number, 1 << 15)
                count[person] += 2 << 15

    with relay(tmp_path, POLICY, settings) as one, echo_server() as port:
        one.person("bob")
        one.ctl("reload")
        threads = [
            threading.Thread(target=carry, args=(one, person, port)) for person in ("alice", "alice", "alice", "bob")
        ]
        for thread in threads:
            thread.start()
        time.sleep(warm)  # until the supervisor has seen where the forwards are
        before, began = dict(count), time.monotonic()
        time.sleep(seconds)
        carried = {person: (count[person] - before[person]) / (time.monotonic() - began) for person in count}
        shown = use(one, "rate_per_person")
        over.set()
        for thread in threads:
            thread.join()
    for person, rate in carried.items():
        assert 1.4 * (1 << 20) < rate < 2.4 * (1 << 20), (person, rate)
    assert shown["by"] in ("alice", "bob")
    assert shown["most"] == 2 << 20


def test_admissions_per_second_are_limited(tmp_path: Path) -> None:
    """With one a second the fourth connection is served three seconds after the first."""
    import time

    with relay(tmp_path, settings="workers: 1\nlimits: {handshakes: 1}\n") as one:
        began = time.monotonic()
        for _ in range(4):
            Client(one.port).sock.close()
        assert time.monotonic() - began > 2.9


def test_a_restart_forgets_neither_bans_nor_freezes(tmp_path: Path) -> None:
    """The next supervisor goes on with what the last one knew, penalised sources and frozen keys alike."""
    from tests.serve.supervisor.admission.test_bans import ban, bans

    with relay(tmp_path, POLICY, SETTINGS, by_systemd=True) as one:
        ban(one, "127.0.0.77")
        with login(one, "alice") as client:
            for number in range(10):
                client.refused(f"192.168.7.{number}", 22)
            client.gone()
        one.restart()
        assert "127.0.0.77" in bans(one)
        assert "alice" in one.ctl("bans")
        assert not (one.site / "state" / "run" / "memory.json").exists()
        with Client(one.port) as client:
            client.service()
            client.send(client.signed("alice", load_key(one.key)))
            assert client.expect(hostile.USERAUTH_SUCCESS, hostile.USERAUTH_FAILURE)[0] == hostile.USERAUTH_FAILURE


def test_a_crash_thaws_no_key(tmp_path: Path) -> None:
    """A freeze lasts until it lapses or is lifted, also when the supervisor is killed in between."""
    with relay(tmp_path, POLICY, SETTINGS) as one:
        with login(one, "alice") as client:
            for number in range(10):
                client.refused(f"192.168.7.{number}", 22)
            client.gone()
        one.kill_supervisor()
        one.start()
        assert "alice" in one.ctl("bans")
        with Client(one.port) as client:
            client.service()
            client.send(client.signed("alice", load_key(one.key)))
            assert client.expect(hostile.USERAUTH_SUCCESS, hostile.USERAUTH_FAILURE)[0] == hostile.USERAUTH_FAILURE
        one.ctl("unban", "alice")
        seen = one.rows("scan.seen")  # twice if the first supervisor was killed before it had acknowledged the denials
        one.kill_supervisor()
        one.start()
        assert "alice" not in one.ctl("bans")
        with login(one, "alice"):
            assert one.rows("scan.seen") == seen


def test_a_reload_names_the_limit_that_changed(tmp_path: Path) -> None:
    """One line for each changed setting, by its whole name, and the same in the audit log."""
    with relay(tmp_path, settings="workers: 1\n") as one:
        one.settings("workers: 1\nlimits: {stop: 4s, dials: 100}\npenalties: {exempt: []}\n")
        said = one.ctl("reload").splitlines()
        assert "limits.dials: 512 -> 100" in said
        assert "limits.stop: 30.0 -> 4.0" in said
        assert 'penalties.exempt: ["127.0.0.0/8", "::1/128"] -> []' in said
        changed = "limits.stop: 30.0 -> 4.0"
        wait_for(lambda: changed in one.rows("site.applied")[-1]["detail"], "no row says what has changed")

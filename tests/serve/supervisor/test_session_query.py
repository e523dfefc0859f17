"""Session queries: every worker lists what it carries, and kill ends it."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from relay.cli.running import open_sessions
from relay.cli.running.open_sessions import OpenSessions
from relay.errors import RelayNotRunning
from relay.serve import control_client
from relay.site import locate
from tests.relay_process import Relay, echo_server, wait_for
from tests.serve import hostile
from tests.serve.hostile import Client, load_key


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Relay]:
    """A relay with two workers, in which bob may reach the same as alice."""
    made = Relay(tmp_path, settings="workers: 2\n", by_systemd=True)
    made.person("bob")
    made.policy(BOTH)
    try:
        made.start()
        wait_for(
            lambda: len(control_client.call(made.state, {"do": "status"})["workers"]) == 2, "one worker is missing"
        )
        yield made
    finally:
        made.end()


BOTH = """\
zones:
  here: {networks: [127.0.0.0/8], interface: lo}
hosts:
  remote: {address: 127.0.0.2, zone: here}
rules:
  - {name: both, allow: [alice, bob], to: [remote], ports: ["1024-65535"]}
"""


def logged_in(one: Relay, person: str = "alice") -> Client:
    """That person's connection."""
    return Client(one.port).login(person, load_key(one.directory / person))


def pieces(one: Relay, **question: Any) -> list[dict[str, Any]]:
    """Every piece of the relay's answer."""
    return list(control_client.listen(one.state, question))


def listed(one: Relay) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The connections and forwards that are told."""
    told = pieces(one, do="connections")
    assert told[-1]["silent"] == []
    connections = [row for piece in told for row in piece.get("connections", ())]
    return connections, [row for piece in told for row in piece.get("forwards", ())]


def test_all_workers_tell_what_they_carry(one: Relay) -> None:
    """Connections of both workers, forwards with what has flowed and is flowing, and strangers as such."""
    with echo_server() as echo, logged_in(one) as alice, logged_in(one, "bob"), Client(one.port):
        number, channel = alice.open("remote", echo)
        alice.write(channel, b"x" * 5000)
        alice.read(number, 5000)
        wait_for(lambda: len(listed(one)[0]) == 3, "the stranger is not told")
        connections, forwards = listed(one)
        assert sorted(row["person"] for row in connections) == ["", "alice", "bob"]
        assert {row["state"] for row in connections if not row["person"]} == {"log-in"}
        mine = next(row for row in connections if row["person"] == "alice")
        assert (mine["client"], mine["login"]) == ("127.0.0.1", "alice")
        (forward,) = forwards
        assert forward["c"] == mine["c"]
        assert (forward["asked"], forward["address"], forward["port"]) == (f"remote:{echo}", "127.0.0.2", echo)
        assert (forward["sent"], forward["received"], forward["state"]) == (5000, 5000, "open")
        workers = {piece["worker"] for piece in pieces(one, do="connections")[:-1] if piece["connections"]}
        assert len(workers) == 2


def test_many_are_told_in_slices(one: Relay) -> None:
    """More than fit into one message arrive whole, each once."""
    with echo_server() as echo, logged_in(one) as alice:
        for _ in range(150):
            alice.open("remote", echo)
        told = [row["f"] for row in listed(one)[1]]
        assert len(told) == len(set(told)) == 150


def test_a_killed_connection_is_told_why_and_its_rows_say_who(one: Relay) -> None:
    """Within a second, with the reason in the rows; others live on."""
    with echo_server() as echo, logged_in(one) as alice, logged_in(one, "bob") as bob:
        alice.open("remote", echo)
        number, channel = bob.open("remote", echo)
        connections, _ = listed(one)
        mine = next(row["c"] for row in connections if row["person"] == "alice")
        began = time.monotonic()
        said = one.ctl("kill", mine, "--reason", "forgotten")
        assert f"ended: connection {mine} of alice from 127.0.0.1:" in said
        assert "may connect again; to block the key: relayctl revoke-key SHA256:" in said
        assert alice.gone() == f"relay: the administrator has ended this (id {mine})"
        assert time.monotonic() - began < 3  # the command's own start is the most of it
        killed = one.wait_row("connection.killed", connection=mine)
        assert (killed["person"], killed["forwards"], killed["why"]) == ("alice", 1, "forgotten")
        assert killed["by_uid"] == os.getuid()
        row = one.wait_row("forward.closed", connection=mine)
        assert (row["reason"], row["why"], row["by_uid"]) == ("killed", "forgotten", os.getuid())
        assert one.wait_row("connection.closed", connection=mine)["reason"] == "killed"
        bob.write(channel, b"alive")
        assert bob.read(number, 5) == b"alive"


def test_a_killed_forward_ends_alone_unless_it_is_the_last(one: Relay) -> None:
    """Its channel is closed and the others continue; with the last one the connection ends, to show the reason."""
    with echo_server() as echo, logged_in(one) as alice:
        first, _ = alice.open("remote", echo)
        second, channel = alice.open("remote", echo)
        forwards = sorted(listed(one)[1], key=lambda row: row["f"])
        assert "ended: forward " in one.ctl("kill", forwards[0]["f"].upper())
        closed = alice.expect(hostile.CLOSE)
        assert int.from_bytes(closed[1:5], "big") == first
        alice.write(channel, b"alive")
        assert alice.read(second, 5) == b"alive"
        one.ctl("kill", forwards[1]["f"])
        assert "the administrator has ended this" in alice.gone()
        for row in forwards:
            assert one.wait_row("forward.closed", forward=row["f"])["reason"] == "killed"


@pytest.mark.parametrize("how", ["person", "key"])
def test_all_of_a_person_or_key_end_in_all_workers(one: Relay, how: str) -> None:
    """Two connections in two workers, one word."""
    with logged_in(one) as first, logged_in(one, "bob"), logged_in(one) as second:
        key = next(row["key"] for row in listed(one)[0] if row["person"] == "alice")
        said = one.ctl("kill", "alice" if how == "person" else key)
        assert said.count("ended: connection") == 2
        for client in (first, second):
            assert "the administrator" in client.gone()
        wait_for(lambda: [row["person"] for row in listed(one)[0]] == ["bob"], "more or less ended than was meant")


def test_what_is_only_asked_about_goes_on(one: Relay) -> None:
    """--dry-run names what would end, and ends nothing."""
    with logged_in(one), logged_in(one, "bob"):
        said = one.ctl("kill", "alice", "--dry-run")
        assert "would end: connection" in said
        assert "of bob" not in said
        assert "nothing was ended" in said
        wait_for(lambda: sorted(row["person"] for row in listed(one)[0]) == ["alice", "bob"], "one has ended")
        assert not one.rows("connection.killed")


def test_an_unknown_name_is_answered_with_the_nearest(one: Relay) -> None:
    """Exit status 1, and what was probably meant."""
    with logged_in(one):
        said = one.ctl("kill", "alcie", status=1)
        assert "no connection or forward matches 'alcie'" in said
        assert "did you mean alice?" in said
        assert "see: relayctl connections" in one.ctl("kill", "0k3v9x2m4qz", status=1)
        (key,) = (row["key"] for row in listed(one)[0])
        shown = next(word for word in one.ctl("connections").split() if word.startswith("SHA256:"))
        assert shown != key
        assert f"did you mean {key}?" in one.ctl("kill", shown, status=1)  # as it stands there, shortened


def test_a_stranger_can_be_ended_by_id(one: Relay) -> None:
    """A connection before log-in is killed like any other."""
    with Client(one.port) as stranger:
        wait_for(lambda: listed(one)[0], "it is not told")
        number = listed(one)[0][0]["c"]
        assert "of a client before log-in" in one.ctl("kill", number)
        assert "the administrator has ended this" in stranger.gone()
        assert one.wait_row("connection.killed", connection=number)["client"] == "127.0.0.1"


def test_a_worker_that_does_not_answer_is_named(one: Relay) -> None:
    """The others' answers come, after two seconds the silent one is named with how to end it, and nothing hangs."""
    with logged_in(one), logged_in(one, "bob"):
        wait_for(lambda: len(listed(one)[0]) == 2, "they are not told")
        stopped = one.worker_pids()[0]
        os.kill(stopped, signal.SIGSTOP)
        try:
            began = time.monotonic()
            told = pieces(one, do="connections")
            assert 1.9 < time.monotonic() - began < 5
            assert [row["pid"] for row in told[-1]["silent"]] == [stopped]
            rows = [row for piece in told for row in piece.get("connections", ())]
            assert sorted(row["person"] for row in rows) == ["alice", "bob"]  # of one the supervisor knows that much
            said = one.ctl("kill", "nobody-here", status=1)
            assert f"to end it with everything in it: kill {stopped}" in said
        finally:
            os.kill(stopped, signal.SIGCONT)


def test_the_drained_are_told_and_ended(one: Relay) -> None:
    """After a restart what the old workers hold is in the list, and a kill reaches it."""
    with echo_server() as echo, logged_in(one) as old:
        old.open("remote", echo)
        one.restart()
        connections, forwards = listed(one)
        assert [row["person"] for row in connections] == ["alice"]
        assert len(forwards) == 1
        one.ctl("kill", "alice")
        assert "the administrator" in old.gone()


def test_no_answer_is_torn_by_a_restart(one: Relay) -> None:
    """Asked without pause across two restarts, every answer is whole: all that is open, and no worker missing."""
    site = locate.find(str(one.site), {})
    answers: list[OpenSessions] = []
    over = threading.Event()

    def go_on_asking() -> None:
        while not over.is_set():
            with suppress(RelayNotRunning):  # while no supervisor runs
                answers.append(open_sessions.query(site, {"do": "connections"}))

    with logged_in(one), logged_in(one, "bob"), ThreadPoolExecutor(1) as pool:
        wait_for(lambda: len(listed(one)[0]) == 2, "they are not told")
        asking = pool.submit(go_on_asking)
        try:
            one.restart()
            one.restart()
        finally:
            over.set()
        asking.result()
        assert len(answers) > 5
        for answer in answers:
            assert sorted(row["person"] for row in answer.connections) == ["alice", "bob"]
            assert answer.silent == ()


def test_a_broken_policy_does_not_matter(one: Relay) -> None:
    """Files that nobody can read: what is open is told and ended all the same."""
    with logged_in(one) as alice:
        one.policy("rules: [half")
        assert "alice" in one.ctl("connections")
        one.ctl("kill", "alice")
        assert "the administrator" in alice.gone()

"""Penalised sources at a real relay: slowed down, informed, never cut off, forgiven."""

import json
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.relay_process import Relay, relay, wait_for
from tests.serve import hostile
from tests.serve.hostile import Client, load_key
from tests.serve.kept import Kept

pytestmark = pytest.mark.xdist_group("serve-bans")

SETTINGS = "workers: 1\npenalties: {exempt: []}\n"
BAD = "127.0.0.66"  # where the failures come from


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """A running relay without exempt networks."""
    with relay(tmp_path_factory.mktemp("relay"), settings=SETTINGS) as shared:
        yield shared
        assert "a bug of ours" not in shared.log(), shared.log()[-5000:]


def bans(one: Relay) -> dict[str, dict[str, object]]:
    """What `relayctl bans --json` lists, by source."""
    from relay.serve.control_client import call

    return {ban["source"]: ban for ban in call(one.site / "state", {"do": "bans"})["bans"]}


def fail(one: Relay, source: str, times: int = 1) -> None:
    """That many connections that offer an unknown key, and end."""
    for _ in range(times):
        with Client(one.port, source=source) as client:
            client.service()
            assert not client.offer("mallory", hostile.public_blob(Ed25519PrivateKey.generate()))


def ban(one: Relay, source: str) -> dict[str, object]:
    """Cause a penalty of the source, and return its entry in the list."""
    fail(one, source, 4)
    return wait_for(lambda: bans(one).get(source), f"{source} is not penalised")


def test_four_failed_connections_are_on_record_and_listed(strict: Relay) -> None:
    """The penalty begins with one row, `bans` shows it with the row's id, and other sources log in as before."""
    found = ban(strict, "127.0.0.61")
    assert found["failures"] == 4
    assert found["why"] == "failed"
    row = strict.wait_row("ban.begun", source="127.0.0.61")
    assert (row["reason"], row["count"], row["id"]) == ("failed", 4, found["id"])
    said = strict.ctl("bans")
    assert re.search(r"127\.0\.0\.61 +\d+ s +4 +no known key", said), said
    assert json.loads(strict.ctl("bans", "--json"))["sources"][0]["source"] == "127.0.0.61"
    with Client(strict.port, source="127.0.0.62") as neighbour:
        neighbour.login("alice", load_key(strict.key))


def test_many_unknown_keys_in_one_connection_are_one_failure(strict: Relay) -> None:
    """Offered keys are never counted, only connections: an agent may hold many unknown keys."""
    with Client(strict.port, source="127.0.0.63") as client:
        client.service()
        for _ in range(15):
            client.offer("alice", hostile.public_blob(Ed25519PrivateKey.generate()))
        client.send(client.signed("alice", load_key(strict.key)))
        client.expect(hostile.USERAUTH_SUCCESS)
    assert "127.0.0.63" not in bans(strict)


def test_a_known_key_gets_in_by_the_slow_lane_and_forgives_all(strict: Relay) -> None:
    """A known key logs in from a penalised address, which ends the penalty for all clients there."""
    source = "127.0.0.64"
    ban(strict, source)
    with Client(strict.port, source=source) as client:
        client.login("alice", load_key(strict.key))
        wait_for(lambda: source not in bans(strict), "the penalty is not lifted")
    strict.wait_row("ban.ended", source=source, reason="proven")
    fail(strict, source, 10)
    assert source not in bans(strict)


def test_one_at_a_time_and_five_seconds_for_a_known_key(strict: Relay) -> None:
    """Of two silent clients of a penalised source the second is not served until the first has been closed."""
    source = "127.0.0.65"
    ban(strict, source)
    with Client(strict.port, source=source, exchange=False) as first:
        first.hello()
        with Client(strict.port, source=source, exchange=False) as second:
            second.sock.settimeout(2)
            with pytest.raises(TimeoutError):
                second.hello()
            assert "no known key was offered in time" in first.gone()
            second.sock.settimeout(20)
            second.hello(b"")
            second._ours = b"SSH-2.0-hostile"  # what it said before it had to wait
            second.exchange()
            second.login("alice", load_key(strict.key))


def test_who_is_turned_away_is_told_and_the_reference_leads_to_it(strict: Relay) -> None:
    """With one connection and ten queued, another client is told how long the penalty lasts, with an id."""
    ban(strict, BAD)
    crowd = [socket.create_connection(("127.0.0.1", strict.port), source_address=(BAD, 0)) for _ in range(12)]
    try:
        told: list[str] = []

        def look() -> bool:
            for sock in crowd:
                sock.settimeout(0.02)
                try:
                    data = sock.recv(1000)
                except TimeoutError:
                    continue
                told.extend(re.findall(rb"retry in (\d+) s \(id (\w{11})\)", data))
            return bool(told)

        wait_for(look, "nobody was told", 5)
        seconds, number = told[0]
        assert 0 < int(seconds) <= 600
        assert BAD in strict.ctl("bans")
        wait_for(lambda: "banned" in strict.ctl("audit", "show", bytes(number).decode(), status=None), "no count", 20)
    finally:
        for sock in crowd:
            sock.close()
    said = strict.ctl("unban", BAD, "--reason", "the job has its key")
    assert f"forgiven: {BAD}" in said
    row = strict.wait_row("ban.ended", source=BAD, reason="lifted")
    assert row["why"] == "the job has its key"
    assert row["refused"] >= 1
    assert "is not banned" in strict.ctl("unban", BAD, status=1)
    with Client(strict.port, source=BAD) as client:
        client.login("alice", load_key(strict.key))


def test_an_office_behind_one_address_is_never_dark(tmp_path: Path) -> None:
    """Containarium#933: while a job without its key reconnects constantly, a colleague logs in within seconds."""
    import threading
    import time

    with relay(tmp_path, settings=SETTINGS) as one:
        over = threading.Event()

        def hammer() -> None:
            while not over.is_set():
                try:
                    fail(one, BAD)
                except (hostile.Gone, OSError):
                    over.wait(0.05)

        jobs = [threading.Thread(target=hammer) for _ in range(4)]
        for job in jobs:
            job.start()
        try:
            wait_for(lambda: BAD in bans(one), "the office is not penalised")
            began = time.monotonic()
            while True:
                try:
                    with Client(one.port, source=BAD) as colleague:
                        colleague.login("alice", load_key(one.key))
                    break
                except hostile.Gone:
                    assert time.monotonic() - began < 20, "the office is dark"
        finally:
            over.set()
            for job in jobs:
                job.join()


async def test_rows_of_penalties_are_bounded() -> None:
    """Of a thousand penalties fifty have a row at once; all are listed, and the next row counts the others."""
    from relay.core.settings import PenaltySettings as Rules
    from relay.serve.supervisor.admission.bans import Bans

    record = Kept()
    many = Bans(record, lambda: Rules(exempt=()))
    for number in range(1000):
        for _ in range(4):
            address = f"10.0.{number >> 8}.{number & 255}"
            many.failed(address, address, "failed")
    assert many.count() == 1000
    assert len(many.shown()) == 1000
    assert len(record.events) == 50
    many.lift("", {})
    assert len([event for event in record.events if event.name == "ban.ended"]) == 1000  # a person did that


async def test_what_a_predecessor_knew_has_gone_on_since() -> None:
    """A penalty, and the time since a log-in, continue to run while no supervisor runs."""
    from relay.core.settings import PenaltySettings as Rules
    from relay.serve.supervisor.admission.bans import Bans

    rules = Rules(exempt=())
    before, soon, late = (Bans(Kept(), lambda: rules) for _ in range(3))
    for _ in range(4):
        before.failed("192.0.2.1", "192.0.2.1", "failed")
    before.proven("192.0.2.2")
    soon.remember(before.memory(), 15.0)
    assert 4 < soon.remaining("192.0.2.1") <= 5
    assert soon.recently_proven("192.0.2.2")
    late.remember(before.memory(), 3601.0)
    assert late.remaining("192.0.2.1") == 0
    assert not late.recently_proven("192.0.2.2")


def test_a_crowd_of_others_gets_nobody_penalised(tmp_path: Path) -> None:
    """A client evicted during its log-in, because other sources need slots, gets no penalty points."""
    settings = "workers: 1\nlimits: {unauthenticated: 12}\npenalties: {exempt: []}\n"
    with relay(tmp_path, settings=settings) as one, ExitStack() as stack:
        for number in range(1, 11):
            stack.enter_context(Client(one.port, source=f"127.0.1.{number}", exchange=False))
        for _ in range(20):
            stack.enter_context(Client(one.port, source="127.0.0.88")).service()
        wait_for(lambda: "127.0.0.88" in str(one.ctl("doctor", "--limits", status=None)), "it is not at the door")
        assert "127.0.0.88" not in bans(one)

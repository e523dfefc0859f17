"""The worker pool: how many workers there are, and what happens when one hangs, dies or leaves files behind."""

import os
import signal
from pathlib import Path

from tests.relay_process import Relay, echo_server, relay, wait_for
from tests.serve.hostile import Client, load_key
from tests.serve.systemd import settled, workers, working


def test_another_number_of_workers_by_reload(tmp_path: Path) -> None:
    """More are started at once; those too many serve whom they have, take nobody new, and end when empty."""
    with relay(tmp_path, settings="workers: 1\n") as one, echo_server() as port:
        (first,) = one.worker_pids()
        with Client(one.port) as old:
            old.login("alice", load_key(one.key))
            number, channel = old.open("remote", port)
            one.settings("workers: 2\n")
            assert "workers: 1 -> 2" in one.ctl("reload")
            wait_for(lambda: len(working(one)) == 2, "there are no two workers")
            assert first in one.worker_pids()
            with Client(one.port) as other:  # to the new one, as the old one has a client
                other.login("alice", load_key(one.key))
                other.open("remote", port)
                one.settings("workers: 1\n")
                one.ctl("reload")
                wait_for(lambda: len(working(one)) == 1, "none of them drains")
                assert len(one.worker_pids()) == 2
                old.write(channel, b"both")
                assert old.read(number, 4) == b"both"
                other.echo("remote", port)
        wait_for(lambda: len(one.worker_pids()) == 1, "the one too many does not end")
        with Client(one.port) as new:
            new.login("alice", load_key(one.key))
            new.echo("remote", port)
        assert "ended with status" not in one.log()
        settled(one)


def test_one_too_many_drains_until_its_time_is_over(tmp_path: Path) -> None:
    """A worker that is not wanted after a reload ends at `drain`, with closing rows that say so."""
    with relay(tmp_path, settings="workers: 2\nlimits: {drain: 2s}\n") as one, echo_server() as port:
        wait_for(lambda: len(working(one)) == 2, "there are no two workers")
        with Client(one.port) as first, Client(one.port) as second:
            for client in (first, second):
                client.login("alice", load_key(one.key)).open("remote", port)
            one.settings("workers: 1\nlimits: {drain: 2s}\n")
            one.ctl("reload")
            assert one.wait_row("forward.closed")["reason"] == "drained"
            wait_for(lambda: len(one.worker_pids()) == 1, "it does not end")
            assert len(one.rows("forward.closed")) == 1  # the other one goes on
        settled(one)


_HASTY = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
sys.argv = ["supervisor", sys.argv[2]]
from relay.serve.supervisor import worker_pool, process
worker_pool.PING_SECONDS, worker_pool.SILENT_SECONDS, worker_pool.HUNG_SECONDS = 0.2, 1.0, 3.0
process.main()
"""


def test_a_worker_that_hangs_is_passed_over_then_replaced(tmp_path: Path) -> None:
    """Stopped in its tracks: new clients go to the other one, and at last another takes its place."""
    with relay(tmp_path, settings="workers: 2\n") as one, echo_server() as port:
        one.stop()
        one._run("-c", _HASTY, str(one.listener.fileno()), str(one.site))
        wait_for(lambda: len(working(one)) == 2, "there are no two workers")
        hung = one.worker_pids()[0]
        os.kill(hung, signal.SIGSTOP)
        wait_for(lambda: silent(one) == [hung], "nobody notices")
        for _ in range(4):
            with Client(one.port, seconds=5) as client:
                client.login("alice", load_key(one.key))
                client.echo("remote", port)
        wait_for(lambda: hung not in one.worker_pids() and len(working(one)) == 2, "it is not replaced")
        assert "has not answered for 3 s: it is killed and replaced" in one.log()
        settled(one)


def silent(one: Relay) -> list[int]:
    """The workers that do not answer."""
    return [worker["pid"] for worker in workers(one) if not worker["answers"]]


def test_locks_that_nobody_holds_are_taken_away(tmp_path: Path) -> None:
    """What a crash left in run/ is gone after the next start; the lock of a worker that lives stays."""
    with relay(tmp_path, settings="workers: 1\n") as one, echo_server() as port, Client(one.port) as client:
        client.login("alice", load_key(one.key))
        number, channel = client.open("remote", port)
        run = one.state / "run"
        (held,) = run.glob("w*.lock")
        one.kill_supervisor()
        for name in ("w1-1", "w2-2"):
            (run / f"{name}.lock").write_text("slot 3\n")
        one.start()
        assert {path.name for path in run.glob("w*.lock")} > {held.name}
        assert not (run / "w1-1.lock").exists()
        assert not (run / "w2-2.lock").exists()
        client.write(channel, b"x")
        assert client.read(number, 1) == b"x"


def test_no_two_workers_make_the_same_ids(tmp_path: Path) -> None:
    """Across restarts each living worker has a slot of its own, joined or not."""
    with relay(tmp_path, settings="workers: 2\n", by_systemd=True) as one:
        wait_for(lambda: len(working(one)) == 2, "there are no two workers")
        with Client(one.port) as first, Client(one.port) as second:
            for client in (first, second):  # each keeps its worker alive
                client.login("alice", load_key(one.key))
            for again in range(1, 4):
                one.restart()
                wait_for(lambda: len(working(one)) == 2, "there are no two workers")
                wait_for(lambda: len(one.worker_pids()) == 4, f"restart {again}: not two of before and two new ones")
                locks = [path.read_text() for path in (one.state / "run").glob("w*.lock")]
                assert len(locks) == len(set(locks)) == 4, locks


def test_workers_that_die_again_and_again_are_started_ever_more_slowly(tmp_path: Path) -> None:
    """Each is replaced after twice the time; the clients of the others notice nothing."""
    with relay(tmp_path, settings="workers: 2\n") as one, echo_server() as port:
        wait_for(lambda: len(working(one)) == 2, "there are no two workers")
        with Client(one.port) as client:
            client.login("alice", load_key(one.key))
            number, channel = client.open("remote", port)
            spared = next(worker["pid"] for worker in workers(one) if worker["connections"])
            for times in range(1, 5):
                (victim,) = wait_for(
                    lambda: (found := [pid for pid in working(one) if pid != spared]) and found, "it is not replaced"
                )
                os.kill(victim, signal.SIGKILL)
                wait_for(lambda times=times: one.log().count("starting another") == times, "nobody notices")
                client.write(channel, b"x")
                assert client.read(number, 1) == b"x"
        delays = [line.rsplit("in ", 1)[-1] for line in one.log().splitlines() if "starting another" in line]
        assert delays == ["0.2 s", "0.4 s", "0.8 s", "1.6 s"]

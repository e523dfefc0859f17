"""What systemd is told, and told the truth: reloads, the watchdog, where it listens."""

import os
import signal
import time
from pathlib import Path

from tests.relay_process import Relay, relay, wait_for
from tests.serve.systemd import Systemd, systemd


def test_systemd_is_told_of_a_reload(tmp_path: Path) -> None:
    """RELOADING with its time, then READY again: by `relayctl reload` and by SIGHUP, whatever comes of it."""
    with systemd(tmp_path, "workers: 1\n") as (one, manager):
        assert manager.told("READY")["STATUS"].startswith("serving at 127.0.0.1:")
        for again in (lambda: one.ctl("reload"), lambda: os.kill(one.pid, signal.SIGHUP)):
            began = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            again()
            said = manager.told("RELOADING")
            assert began <= int(said["MONOTONIC_USEC"]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            assert manager.told("READY")["READY"] == "1"
        one.policy("rules: nonsense")
        one.ctl("reload", status=1)
        assert manager.told("RELOADING")
        assert manager.told("READY")
        one.stop()
        assert manager.told("STOPPING")


def test_the_watchdog_is_fed_only_while_workers_answer(tmp_path: Path) -> None:
    """A worker that stands still: systemd hears nothing until it moves again."""
    one = Relay(tmp_path, settings="workers: 1\n", by_systemd=True)
    one.environ["WATCHDOG_USEC"] = "6000000"
    manager = Systemd(one)
    try:
        one.start()
        assert manager.told("WATCHDOG")
        assert manager.told("WATCHDOG")
        (worker,) = one.worker_pids()
        os.kill(worker, signal.SIGSTOP)
        wait_for(lambda: "watchdog is not fed" in one.log(), "it is fed")
        while not manager.silent("WATCHDOG", 0.01):
            pass
        assert manager.silent("WATCHDOG", 4)
        os.kill(worker, signal.SIGCONT)
        assert manager.told("WATCHDOG")
    finally:
        one.end()
        manager.close()


def test_where_it_listens_is_said_honestly(tmp_path: Path) -> None:
    """A changed `listen` is not in force by a reload, and a socket that differs from it is said at the start."""
    with relay(tmp_path, settings="workers: 1\n") as one:
        (one.site / "relay.yaml").write_text('listen: ["127.0.0.1:2"]\nworkers: 1\n')
        assert "not in force yet: relayctl upgrade" in one.ctl("reload")
        one.stop()
        one.start()
        assert "warning: this relay listens not at 127.0.0.1:2" in one.log()
        assert f"listens at 127.0.0.1:{one.port}, which is not in `listen`" in one.log()

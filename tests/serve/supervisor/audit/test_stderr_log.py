"""The log on stderr: one line per event, never more of them than stderr's reader can take."""

import subprocess
import sys

_PROGRAM = """
import sys
from relay.serve.supervisor.audit.stderr_log import StderrLog
log = StderrLog()
log.say("serving")
for number in range(int(sys.argv[1])):
    log.event(f"event {number}")
    log.stranger(f"attempt {number}")
log.flush(5.0)
log.say("done")
log.flush(5.0)
"""


def lines(events: int) -> list[str]:
    """The lines that a process writes for so many events and as many attempts of unauthenticated clients."""
    words = [sys.executable, "-c", _PROGRAM, str(events)]
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stderr.splitlines()


def test_each_event_is_one_line() -> None:
    """Lines come in order, each with the prefix that fail2ban's filter expects."""
    assert lines(2)[:5] == [
        "relay: serving", "relay: event 0", "relay: attempt 0", "relay: event 1", "relay: attempt 1"
    ]  # fmt: skip


def test_a_flood_of_attempts_does_not_crowd_out_events() -> None:
    """Attempts are limited far below events, so 800 of each leave all events and few attempts."""
    found = lines(800)
    assert sum("event" in line for line in found) == 800
    assert 100 <= sum("attempt" in line for line in found) <= 300

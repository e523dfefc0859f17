"""The kernel reports changes of links, addresses, routes and rules; a report only triggers a new query."""

import json
import sys
from typing import TYPE_CHECKING

import pytest

from relay.net.kernel.change_events import ChangeEvents

if TYPE_CHECKING:
    from tests.net.conftest import Namespace

# each change of the arguments is made, and one line tells whether the watch heard of it, and of nothing else
SCRIPT = """
import json, select, subprocess, sys
from relay.net.kernel.change_events import ChangeEvents
watch = ChangeEvents()
heard = []
for line in json.loads(sys.argv[1]):
    while select.select([watch], [], [], 0.05)[0]:
        watch.drain()
    quiet = watch.drain()
    subprocess.run(["ip", *line.split()], check=True, stdout=subprocess.DEVNULL)
    heard.append([quiet, bool(select.select([watch], [], [], 5)[0]), watch.drain()])
print(json.dumps(heard))
"""
FLOOD = """
import subprocess
from relay.net.kernel.change_events import ChangeEvents
watch = ChangeEvents()
watch._socket.setsockopt(1, 8, 4096)  # SO_RCVBUF
lines = "".join(f"route add 10.{n // 250}.{n % 250}.0/24 dev zt0\\n" for n in range(2000))
subprocess.run(["ip", "-batch", "-"], input=lines, text=True, check=True)
print(watch.drain(), watch.drain())
lines = lines.replace("add", "del")
watch._socket.setsockopt(1, 8, 4 << 20)
subprocess.run(["ip", "-batch", "-"], input=lines, text=True, check=True)
calls = 1
while watch.drain():
    calls += 1
print(calls)
"""


def test_a_watch_needs_no_power_and_can_be_closed() -> None:
    """Listening needs no privilege, draining never waits, and the descriptor is closed."""
    watch = ChangeEvents()
    assert watch.fileno() >= 0
    watch.drain()
    watch.close()
    assert watch.fileno() == -1


@pytest.mark.system
def test_each_kind_of_change_is_told(relay_host: "Namespace") -> None:
    """Links, their state, addresses, routes and rules of both families; a question alone is no change."""
    changes = [
        "link set zt0 mtu 1400",
        "link set zt0 down",
        "link set zt0 up",
        "address add 172.18.0.11/24 dev zt0",
        "address add fd18::11/64 dev zt0 nodad",
        "address del 172.18.0.11/24 dev zt0",
        "route add 10.9.0.0/16 dev zt0",
        "route del 10.9.0.0/16 dev zt0",
        "-6 route add fdbb::/64 dev zt0",
        "-6 route del fdbb::/64 dev zt0",
        "rule add from 10.0.0.1 lookup 100",
        "-6 rule add from fd00::1 lookup 100",
        "link add zt1 type veth peer name far_zt1",
        "link del zt0",
    ]
    heard = json.loads(relay_host.run(sys.executable, "-c", SCRIPT, json.dumps(changes)))
    assert dict(zip(changes, heard, strict=True)) == {change: [False, True, True] for change in changes}


@pytest.mark.system
def test_a_question_is_no_change(relay_host: "Namespace") -> None:
    """Listing links and routes causes no notification."""
    questions = ["link show", "route show", "route get 172.18.0.200"]
    script = SCRIPT.replace("[], 5)", "[], 0.2)")
    heard = json.loads(relay_host.run(sys.executable, "-c", script, json.dumps(questions)))
    assert heard == [[False, False, False]] * 3


@pytest.mark.system
def test_a_flood_is_bounded_and_a_loss_is_a_change(relay_host: "Namespace") -> None:
    """More than the socket holds: the loss itself says "changed". More than one call takes: the next one goes on."""
    first, calls = relay_host.run(sys.executable, "-c", FLOOD).splitlines()
    assert first.startswith("True ")
    assert int(calls) > 1

"""Zones are looked at after each change, not more often than a machine can bear, and twice a second in any case."""

import itertools
import json
import sys
from collections.abc import Iterator

import pytest

from tests.net.conftest import Namespace

# counts looks while something happens; `spent` is how long each look takes
COUNT = """
import asyncio, json, resource, sys
from relay.net.kernel.route_monitor import RouteMonitor
seconds, spent, commands, blind, fails, idle = json.loads(sys.argv[1])
looks, bugs = [], []

async def look():
    looks.append(asyncio.get_running_loop().time() - began)
    if fails and len(looks) < 3:
        raise ValueError("a bug")
    await asyncio.sleep(spent)

async def main():
    global began
    began = asyncio.get_running_loop().time()
    lookout = RouteMonitor(look, bugs.append, lambda: idle and len(looks) < 2)
    if idle > 0:
        asyncio.get_running_loop().call_later(idle, lookout.check_now)
    if blind:  # no descriptor is left for the socket that hears of changes
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    task = asyncio.create_task(lookout.run())
    await asyncio.sleep(0)
    if commands:
        batch = "\\n".join(commands)
        ip = await asyncio.create_subprocess_exec("ip", "-batch", "-", stdin=asyncio.subprocess.PIPE)
        await ip.communicate(batch.encode())
    await asyncio.sleep(seconds)
    task.cancel()
    print(json.dumps([looks, lookout.trouble, len(bugs)]))

asyncio.run(main())
"""


def count(
    namespace: Namespace,
    seconds: float,
    *commands: str,
    spent: float = 0.0,
    blind: bool = False,
    fails: bool = False,
    idle: float = 0,
) -> tuple[list[float], str, int]:
    """When it looked, in seconds; what troubles it; how many looks went wrong."""
    arguments = json.dumps([seconds, spent, commands, blind, fails, idle])
    looks, trouble, bugs = json.loads(namespace.run(sys.executable, "-c", COUNT, arguments))
    return looks, trouble, bugs


pytestmark = pytest.mark.system


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    """A network in which nothing happens by itself."""
    made = Namespace()
    try:
        made.ip("link set lo up")
        yield made
    finally:
        made.close()


def test_it_looks_at_once_and_twice_a_second(namespace: Namespace) -> None:
    """Nothing changes: the belt alone."""
    looks, trouble, _ = count(namespace, 1.6)
    assert len(looks) in (2, 3)
    assert looks[1] - looks[0] >= 0.5
    assert trouble == ""


def test_a_change_is_looked_at_within_a_tenth_of_a_second(namespace: Namespace) -> None:
    """Gathered for a moment, then looked at: long before the belt."""
    looks, _, _ = count(namespace, 0.4, "link set lo mtu 1500")
    assert len(looks) == 2


def test_while_nothing_is_open_it_looks_when_something_changes(namespace: Namespace) -> None:
    """While nothing is open only changes trigger checks; after `begin` the half-second interval is back."""
    looks, _, _ = count(namespace, 0.8, idle=-1)
    assert len(looks) == 1
    looks, _, _ = count(namespace, 0.4, "link set lo mtu 1500", idle=-1)
    assert len(looks) == 2
    looks, _, _ = count(namespace, 1.5, idle=0.2)
    assert len(looks) in (3, 4)
    assert looks[1] < 0.5 <= looks[2] - looks[1]
    looks, _, _ = count(namespace, 0.8, blind=True, idle=-1)  # changes are not told: then it is needed
    assert len(looks) == 2


def test_a_swarm_of_changes_is_a_few_looks(namespace: Namespace) -> None:
    """Routes come and go by the thousand: at most twenty looks a second."""
    changes = [
        f"route {verb} 10.{n // 250}.{n % 250}.0/24 dev lo"
        for _ in range(5)
        for verb in ("add", "del")
        for n in range(250)
    ]
    looks, _, _ = count(namespace, 0.3, *changes)
    assert 2 <= len(looks) <= 2 + looks[-1] * 20
    assert all(later - sooner > 0.045 for sooner, later in itertools.pairwise(looks))


def test_long_looks_come_less_often(namespace: Namespace) -> None:
    """A look that takes 0.1 s rests for 0.4 s, whatever changes, and without a change for 5 s."""
    changes = ["link set lo mtu 1500", "link set lo mtu 1501"]
    looks, _, _ = count(namespace, 1.7, *changes, spent=0.1)
    assert len(looks) == 2
    assert looks[1] - looks[0] >= 0.5


def test_without_netlink_the_belt_goes_on(namespace: Namespace) -> None:
    """The trouble is known, and each half second is looked at all the same."""
    looks, trouble, _ = count(namespace, 1.6, blind=True)
    assert len(looks) in (2, 3)
    assert "Too many open files" in trouble


def test_a_look_that_fails_is_not_the_last(namespace: Namespace) -> None:
    """An exception is reported, and the next check runs."""
    looks, _, bugs = count(namespace, 2.6, fails=True)
    assert bugs == 2
    assert len(looks) >= 2

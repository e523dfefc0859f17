"""CPU cost of the route guard for a forward and for a check of open forwards. Exit status 1 over 100 us a forward.

    python bench/guard.py [--calls 20000]

Two route queries to the running kernel (before and after connecting) and one check of the socket's own address, as in
`relay.serve.worker.forward.dial`, for 127.0.0.1 on lo: on any machine, without root, and no packet leaves. Then the
check of open forwards (`relay.serve.worker.zone_watch`) that follows each change of the kernel's tables.
"""

import argparse
import asyncio
import gc
import socket
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_network
from typing import Any

from relay.core.policy.model import Zone
from relay.net.kernel import egress_path, interfaces, route_guard
from relay.net.kernel.egress_path import EgressPath
from relay.serve.worker.forward.dial import _source
from relay.serve.worker.zone_watch import ZoneWatch

BOUND = 100.0  # microseconds a forward in all; see docs/reference/benchmarks.md
ADDRESS = ip_address("127.0.0.1")


def spent(what: Callable[[], object], calls: int) -> tuple[float, float]:
    """p50 and p99 of `calls` calls, in microseconds."""
    for _ in range(200):  # warm: the socket, the compiled pattern
        what()
    times = []
    for _ in range(calls):
        start = time.perf_counter_ns()
        what()
        times.append((time.perf_counter_ns() - start) / 1000)
    cuts = statistics.quantiles(times, n=100)
    return cuts[49], cuts[98]


class Open:
    """A forward, as far as a check of open forwards needs it."""

    def __init__(self, way: EgressPath) -> None:
        self.path = way

    def zone_failed(self, obstacle: str, detail: str) -> None:
        """Called when the guard would end the forward; the figures would then be meaningless."""
        raise SystemExit(f"the guard refused: {obstacle}: {detail}")


async def look(zone: Zone, forwards: int, addresses: int) -> tuple[float, float]:
    """Milliseconds of CPU to check `forwards` forwards to `addresses` addresses: in all, and of the longest turn."""
    guard = egress_path.check_path(zone, ADDRESS)
    ours = [Open(EgressPath(zone, IPv4Address(int(ADDRESS) + n % addresses), guard, ADDRESS)) for n in range(forwards)]
    zones: Any = ZoneWatch(lambda: ours, lambda error: None)  # type: ignore[arg-type,return-value] # a stand-in
    longest = 0.0
    over = False

    async def neighbour() -> None:
        nonlocal longest
        while not over:
            at = time.thread_time()
            await asyncio.sleep(0)
            longest = max(longest, time.thread_time() - at)

    await zones.check()
    beside = asyncio.create_task(neighbour())
    await asyncio.sleep(0.01)
    longest = 0.0
    start = time.thread_time()
    await zones.check()
    took = time.thread_time() - start
    over = True
    await beside
    return took * 1000, longest * 1000


async def main() -> int:
    """Measure a zone with a plain interface name and one with a pattern."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--calls", type=int, default=20_000)
    calls = parser.parse_args().calls
    gc.freeze()  # as a worker does
    print(f"{len(interfaces.interfaces())} interfaces, {len(route_guard.routes())} routes, {calls} calls.\n")
    listener = socket.create_server(("127.0.0.1", 0))
    sock = socket.create_connection(listener.getsockname())
    worst = 0.0
    print("| zone's interface | | p50 us | p99 us |\n|---|---|---|---|")
    for interface in ("lo", "l?"):
        zone = Zone("here", (ip_network("127.0.0.0/8"),), interface)
        zones = ZoneWatch(lambda: (), lambda error: None)
        way = EgressPath(zone, ADDRESS, egress_path.check_path(zone, ADDRESS))
        index = way.guard.index
        if not way.guard.ok or not zones.owns(index, ADDRESS):
            raise SystemExit(f"the guard refused: {way.guard}")

        def whole(zone: Zone = zone, zones: ZoneWatch = zones, index: int = index) -> None:
            found = EgressPath(zone, ADDRESS, egress_path.check_path(zone, ADDRESS))
            found = replace(found, source=_source(sock))
            now = route_guard.guard(found.guard.interface, found.address, zone.gateway)
            found.obstacle(now, zones.owns)
            zones.owns(index, ADDRESS)  # `obstacle` does not ask about lo

        def question(zone: Zone = zone) -> None:
            egress_path.check_path(zone, ADDRESS)

        for name, what in (("one question", question), ("a forward in all", whole)):
            middle, late = spent(what, calls)
            print(f"| `{interface}` | {name} | {middle:.1f} | {late:.1f} |")
        worst = max(worst, middle)
    print("\n| a check of open forwards | CPU, ms | longest turn of the loop, CPU, ms |\n|---|---|---|")
    zone = Zone("here", (ip_network("127.0.0.0/8"),), "l?")
    for forwards, addresses in ((1000, 10), (4096, 4096)):
        took, longest = await look(zone, forwards, addresses)
        print(f"| {forwards} forwards to {addresses} hosts | {took:.1f} | {longest:.1f} |")
    print(f"\nThe bound of {BOUND:.0f} us a forward at p50: {'kept' if worst < BOUND else '**exceeded**'}.")
    return 0 if worst < BOUND else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))

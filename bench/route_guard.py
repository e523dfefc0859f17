"""What does the route guard cost per dial? Prints microseconds a call; exits 1 over the bound of 100.

    python bench/route_guard.py [--calls 20000]

Asks the running kernel about 127.0.0.1 by lo (any machine, no root, no packet is sent).
"""

import argparse
import statistics
import sys
import time
from ipaddress import ip_address

from relay.net import interfaces, routes

BOUND = 100.0  # microseconds: what a forward may pay for knowing that its packets leave by the zone's interface


def measure(interface: str, calls: int) -> list[float]:
    """Microseconds of each of `calls` questions."""
    address = ip_address("127.0.0.1")
    spent = []
    for _ in range(calls):
        start = time.perf_counter_ns()
        answer = routes.guard(interface, address, None)
        spent.append((time.perf_counter_ns() - start) / 1000)
        if not answer.ok:
            raise SystemExit(f"the guard refused: {answer}")
    return spent


def main() -> int:
    """Measure a plain name and a pattern."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=20_000)
    calls = parser.parse_args().calls
    worst = 0.0
    print(f"{len(interfaces.interfaces())} interfaces, {len(routes.routes())} routes, {calls} calls")
    print("| zone's interface | p50 us | p99 us |\n|---|---|---|")
    for interface in ("lo", "l?"):
        measure(interface, 200)  # warm: the socket, the compiled pattern
        cuts = statistics.quantiles(measure(interface, calls), n=100)
        print(f"| `{interface}` | {cuts[49]:.1f} | {cuts[98]:.1f} |")
        worst = max(worst, cuts[49])
    print(f"bound {BOUND:.0f} us: {'kept' if worst < BOUND else 'BROKEN'}")
    return 0 if worst < BOUND else 1


if __name__ == "__main__":
    sys.exit(main())

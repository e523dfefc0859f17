"""Re-checks the zones of open forwards, and ends the forwards whose zone is no longer what it was.

The kernel is asked once per check for each zone and address that forwards use, a bounded number per turn of the loop.
New forwards ask for themselves (`dial`); they share the addresses of interfaces that are known here.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

from relay.core.policy.model import Address
from relay.errors import RelayError
from relay.net.kernel import egress_path, interfaces
from relay.net.kernel.egress_path import EgressPath
from relay.net.kernel.route_guard import Obstacle, RouteCheck
from relay.net.kernel.route_monitor import RouteMonitor

TURN = 512  # forwards per turn of the loop whose answer is known already: about a millisecond
COST = 16  # a question to the kernel, or the end of a forward, takes as long as so many of them

# what the answer depends on: interface, gateway, target, port, our own address
_Key = tuple[str, Address | None, Address, int, Address | None]


class WatchedForward(Protocol):
    """A forward, as far as its zone is concerned."""

    path: EgressPath | None  # None: it is not dialled yet, or is over

    def zone_failed(self, obstacle: Obstacle, detail: str) -> None:
        """The zone is no longer what it was at the dial."""


class ZoneWatch:
    """The zones of one worker. `forwards` gives all its forwards, including those that are being opened."""

    def __init__(
        self,
        forwards: Callable[[], Iterable[WatchedForward]],
        bug: Callable[[BaseException], None],
        idle: Callable[[], bool] = lambda: False,
    ) -> None:
        """`idle`: whether the worker has no connections; `begin` is to be called with the first one."""
        self._forwards = forwards
        self._addresses: dict[int, frozenset[Address]] = {}
        monitor = RouteMonitor(self.check, bug, idle)
        self.run = monitor.run
        self.begin = monitor.begin

    def owns(self, index: int, address: Address) -> bool:
        """Whether the interface of that index has that address. A yes holds until the next check; a no is asked again.

        Raises OSError, and RelayError off Linux.
        """
        if address in self._addresses.get(index, ()):
            return True
        self._addresses[index] = found = interfaces.addresses(index)
        return address in found

    async def check(self) -> None:
        """Ask for each forward whether its path is still the same, and end it if not."""
        self._addresses.clear()
        answers: dict[_Key, RouteCheck] = {}
        forwards = tuple(self._forwards())
        names = _names() if forwards else None
        done = 0
        for forward in forwards:
            if done >= TURN:
                await asyncio.sleep(0)
                done, names = 0, _names()  # they may have changed meanwhile
            done += 1
            path = forward.path
            if path is None:
                continue
            key = path.zone.interface, path.zone.gateway, path.address, path.port, path.source
            answer = answers.get(key)
            if answer is None:
                done += COST
                answer = answers[key] = egress_path.check_path(
                    path.zone, path.address, names, port=path.port, source=path.source
                )
            try:
                obstacle = path.obstacle(answer, self.owns)
            except (OSError, RelayError):
                continue  # its addresses cannot be asked now: the next check asks again
            if obstacle is not None:
                done += COST
                forward.zone_failed(*obstacle)


def _names() -> list[str] | None:
    try:
        return interfaces.names()
    except OSError:
        return None  # the guard asks for them itself, and reports the failure

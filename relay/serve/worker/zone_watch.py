"""Are the zones of a worker's forwards still what they were when the targets were dialled? What is not is cut.

The kernel is asked once a look for each zone and address that a forward goes to, a few at a time, so that the other
streams never wait for it. New forwards ask by themselves (`dial`); they share what is known of interfaces' addresses.
"""

import asyncio
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address

from relay.core.policy.model import Address
from relay.errors import RelayError
from relay.net.kernel import egress_path as ways
from relay.net.kernel import interfaces
from relay.net.kernel.route_guard import RouteCheck
from relay.net.kernel.route_monitor import RouteMonitor
from relay.serve.worker.forward.forward import Forward

_Address = IPv4Address | IPv6Address
TURN = 512  # forwards per turn of the loop whose answer is known already: about a millisecond
COST = 16  # asking the kernel, or cutting a forward, takes as long as so many of them

# what the guard's answer depends on: interface, gateway, target, port, our own address
_Key = tuple[str, _Address | None, _Address, int, _Address | None]


class ZoneWatch:
    """The zones of one worker. `forwards` gives all its forwards, those being opened too."""

    def __init__(
        self,
        forwards: Callable[[], Iterable[Forward]],
        bug: Callable[[BaseException], None],
        idle: Callable[[], bool] = lambda: False,
    ) -> None:
        """`idle`: whether nobody is connected; `begin` is to be called when somebody is."""
        self._forwards = forwards
        self._addresses: dict[int, frozenset[Address]] = {}
        self._lookout = RouteMonitor(self.look, bug, idle)
        self.run = self._lookout.run
        self.begin = self._lookout.begin

    def owns(self, index: int, address: Address) -> bool:
        """Whether the interface of that index has that address. Known until the next look; a no is asked again.

        Raises OSError, and RelayError off Linux.
        """
        if address in self._addresses.get(index, ()):
            return True
        self._addresses[index] = found = interfaces.addresses(index)
        return address in found

    async def look(self) -> None:
        """Ask for each forward whether its way is still the same, and end it if not."""
        self._addresses.clear()
        answers: dict[_Key, RouteCheck] = {}
        forwards = tuple(self._forwards())
        names = _names() if forwards else None
        done = 0
        for forward in forwards:
            if done >= TURN:
                await asyncio.sleep(0)
                done, names = 0, _names()  # they may have changed while others had their turn
            done += 1
            way = forward.way
            if way is None:
                continue
            key = way.zone.interface, way.zone.gateway, way.address, way.port, way.source
            answer = answers.get(key)
            if answer is None:
                done += COST
                answer = answers[key] = ways.look(way.zone, way.address, names, port=way.port, source=way.source)
            try:
                found = way.obstacle(answer, self.owns)
            except (OSError, RelayError):
                continue  # its addresses cannot be asked now: the next look asks again
            if found is not None:
                done += COST
                forward.obstruct(*found)


def _names() -> list[str] | None:
    try:
        return interfaces.names()
    except OSError:
        return None  # the guard finds out by itself, and says so

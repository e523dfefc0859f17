"""Which zones are down, since when and why? Written down once per change, and told to whoever asks for the status.

The supervisor looks at one address of each network of each zone; workers look at what they dial, and cut (`zones`).
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from relay.core.audit.event import Value
from relay.core.escape import escape
from relay.core.policy.model import Address
from relay.core.policy.probe_addresses import ProbeAddresses, samples
from relay.errors import RelayError
from relay.net.kernel import egress_path, interfaces, rp_filter
from relay.net.kernel.route_guard import Obstacle, RouteCheck
from relay.net.kernel.route_monitor import RouteMonitor
from relay.serve.supervisor.audit.audit_log import AuditLog
from relay.serve.supervisor.policy.running_config import CompiledSite

SLICE = 16  # networks asked about per turn of the loop
SAY_SECONDS = 1.0  # between two rows about one zone: an interface that flutters cannot fill the log
WARNED = 64  # zones of a status that are looked at for shadows, too


@dataclass(slots=True)
class _State:
    guard: RouteCheck
    since: int  # UTC microseconds
    down_since: int = 0  # of the row zone.down; 0: the last row, if any, was zone.up
    said_at: float = float("-inf")  # of the last row, by the loop's clock


class ZoneStatus:
    """The zones of one supervisor. `document` gives the law of the moment, `idle` whether nothing is open."""

    def __init__(
        self, record: AuditLog, document: Callable[[], CompiledSite], idle: Callable[[], bool] = lambda: False
    ) -> None:
        """When `idle` ends, `begin` is to be called; when the law has changed, `look_now`."""
        self._loop = asyncio.get_running_loop()
        self._record = record
        self._document = document
        self._known: CompiledSite | None = None
        self._samples: tuple[ProbeAddresses, ...] = ()
        self._states: dict[str, _State] = {}
        self._lookout = RouteMonitor(
            self.look, lambda error: record.say(f"a bug of ours, please report it: {error!r}"), idle
        )
        self.run = self._lookout.run
        self.look_now = self._lookout.check_now
        self.begin = self._lookout.begin
        self._complained = False

    def status(self) -> list[dict[str, Any]]:
        """One object per zone: zone, up, reason (an obstacle's word, "" when up), detail, since (UTC microseconds)."""
        found: list[dict[str, Any]] = []
        for sample in self._samples:
            state = self._states.get(sample.zone.name)
            if state is None:
                continue
            guard, detail = state.guard, state.guard.detail
            if guard.ok and len(found) < WARNED:
                detail = _warning(sample, guard)
            reason = str(guard.reason or "")
            told = {"zone": sample.zone.name, "up": guard.ok, "reason": reason, "detail": escape(detail, 400)}
            found.append({**told, "since": state.since})
        return found

    def standing(self) -> dict[str, str]:
        """Each zone that was looked at, and its obstacle's word; "" when it is up."""
        return {name: str(state.guard.reason or "") for name, state in self._states.items()}

    async def look(self) -> None:
        """Ask for every zone, and write down what changed."""
        if self._lookout.trouble and not self._complained:
            self._complained = True
            what = escape(self._lookout.trouble, 200)
            self._record.say(f"the kernel does not tell of changes ({what}): zones are looked at twice a second")
        document = self._document()
        if document is not self._known:
            self._samples = await asyncio.to_thread(samples, document.policy)
            self._known = document
            names = {sample.zone.name for sample in self._samples}
            self._states = {name: state for name, state in self._states.items() if name in names}
        asked = 0
        for sample in self._samples:
            guard = RouteCheck(None)
            for addresses in sample.addresses:
                asked += 1
                if asked % SLICE == 0:
                    await asyncio.sleep(0)
                guard = _ask(sample, addresses)
                if not guard.ok:
                    break
            self._take(sample.zone.name, guard)

    def _take(self, zone: str, guard: RouteCheck) -> None:
        now = self._record.now_us()
        state = self._states.get(zone)
        if state is None:
            state = self._states[zone] = _State(guard, now)
        elif state.guard.ok != guard.ok:
            state.since = now
        state.guard = guard
        if guard.ok == (state.down_since == 0):
            return  # nothing new
        later = state.said_at + SAY_SECONDS - self._loop.time()
        if later > 0:
            self._loop.call_later(later, self._lookout.check_now)
            return
        state.said_at = self._loop.time()
        fields: dict[str, Value] = {"zone": zone}
        if guard.ok:
            self._record.note("zone.up", {**fields, "duration": now - state.down_since})
            state.down_since = 0
        else:
            state.down_since = now
            self._record.note("zone.down", {**fields, "reason": str(guard.reason), "detail": escape(guard.detail, 400)})


def _ask(sample: ProbeAddresses, addresses: tuple[Address, ...]) -> RouteCheck:
    """The guard's answer for the first of these that is not this machine's own address."""
    guard = RouteCheck(None)
    for address in addresses:
        guard = egress_path.check_path(sample.zone, address)
        if guard.reason is not Obstacle.NOT_UNICAST or not _is_ours(address):
            return guard
    return RouteCheck(None, "", guard.interface, guard.index)  # nothing is left to ask about


def _is_ours(address: Address) -> bool:
    try:
        return address in interfaces.own_addresses()
    except (OSError, RelayError):
        return False


def _warning(sample: ProbeAddresses, guard: RouteCheck) -> str:
    """What is not well in a zone that is up: its answers may be dropped here."""
    found = (
        rp_filter.dropped_answers(addresses[0], guard.interface, guard.index)
        for addresses in sample.addresses
        if addresses and guard.interface not in ("", egress_path.LOOPBACK)
    )
    return next(filter(None, found), "")

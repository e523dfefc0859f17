"""Health of the zones: which are down, since when and why, with an audit row for each change.

The supervisor checks one address of each network of each zone. Workers check the targets of their open forwards.
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

SLICE = 16  # networks checked per turn of the event loop
ROW_SECONDS = 1.0  # between two rows about one zone: an interface that goes up and down cannot fill the log
MAX_WARNINGS = 64  # zones of a status that are also checked for dropped answers


@dataclass(slots=True)
class _ZoneState:
    """The last check of a zone, and what was recorded about it."""

    check: RouteCheck
    since: int  # UTC microseconds
    down_since: int = 0  # of the row zone.down; 0: the last row, if any, was zone.up
    recorded_at: float = float("-inf")  # of the last row, in the loop's time


class ZoneStatus:
    """The zones of the running configuration."""

    def __init__(
        self, audit: AuditLog, document: Callable[[], CompiledSite], idle: Callable[[], bool] = lambda: False
    ) -> None:
        """`document` returns the running configuration, `idle` whether no forward is open.

        Call `begin` when `idle` ends, and `check_now` after a change of the configuration.
        """
        self._loop = asyncio.get_running_loop()
        self._audit = audit
        self._document = document
        self._known: CompiledSite | None = None
        self._samples: tuple[ProbeAddresses, ...] = ()
        self._states: dict[str, _ZoneState] = {}
        self._monitor = RouteMonitor(
            self.check, lambda error: audit.say(f"a bug of ours, please report it: {error!r}"), idle
        )
        self.run = self._monitor.run
        self.check_now = self._monitor.check_now
        self.begin = self._monitor.begin
        self._complained = False

    def status(self) -> list[dict[str, Any]]:
        """One object per zone: zone, up, reason (an Obstacle, "" when up), detail, since (UTC microseconds)."""
        rows: list[dict[str, Any]] = []
        for sample in self._samples:
            state = self._states.get(sample.zone.name)
            if state is None:
                continue
            check, detail = state.check, state.check.detail
            if check.ok and len(rows) < MAX_WARNINGS:
                detail = _warning(sample, check)
            reason = str(check.reason or "")
            row = {"zone": sample.zone.name, "up": check.ok, "reason": reason, "detail": escape(detail, 400)}
            rows.append({**row, "since": state.since})
        return rows

    def obstacles(self) -> dict[str, str]:
        """Each zone that was checked, and its Obstacle; "" when it is up."""
        return {name: str(state.check.reason or "") for name, state in self._states.items()}

    async def check(self) -> None:
        """Check every zone, and record what changed."""
        if self._monitor.trouble and not self._complained:
            self._complained = True
            what = escape(self._monitor.trouble, 200)
            self._audit.say(f"the kernel does not report changes ({what}): zones are checked twice a second")
        document = self._document()
        if document is not self._known:
            self._samples = await asyncio.to_thread(samples, document.policy)
            self._known = document
            names = {sample.zone.name for sample in self._samples}
            self._states = {name: state for name, state in self._states.items() if name in names}
        checked = 0
        for sample in self._samples:
            check = RouteCheck(None)
            for addresses in sample.addresses:
                checked += 1
                if checked % SLICE == 0:
                    await asyncio.sleep(0)
                check = _check(sample, addresses)
                if not check.ok:
                    break
            self._update(sample.zone.name, check)

    def _update(self, zone: str, check: RouteCheck) -> None:
        now = self._audit.now_us()
        state = self._states.get(zone)
        if state is None:
            state = self._states[zone] = _ZoneState(check, now)
        elif state.check.ok != check.ok:
            state.since = now
        state.check = check
        if check.ok == (state.down_since == 0):
            return  # nothing has changed
        later = state.recorded_at + ROW_SECONDS - self._loop.time()
        if later > 0:
            self._loop.call_later(later, self._monitor.check_now)
            return
        state.recorded_at = self._loop.time()
        fields: dict[str, Value] = {"zone": zone}
        if check.ok:
            self._audit.note("zone.up", {**fields, "duration": now - state.down_since})
            state.down_since = 0
        else:
            state.down_since = now
            self._audit.note("zone.down", {**fields, "reason": str(check.reason), "detail": escape(check.detail, 400)})


def _check(sample: ProbeAddresses, addresses: tuple[Address, ...]) -> RouteCheck:
    """The route check for the first of these addresses that is not this machine's own."""
    check = RouteCheck(None)
    for address in addresses:
        check = egress_path.check_path(sample.zone, address)
        if check.reason is not Obstacle.NOT_UNICAST or not _is_ours(address):
            return check
    return RouteCheck(None, "", check.interface, check.index)  # nothing is left to check


def _is_ours(address: Address) -> bool:
    try:
        return address in interfaces.own_addresses()
    except (OSError, RelayError):
        return False


def _warning(sample: ProbeAddresses, check: RouteCheck) -> str:
    """A warning about a zone that is up: the kernel may drop its answers; "" if there is none."""
    warnings = (
        rp_filter.dropped_answers(addresses[0], check.interface, check.index)
        for addresses in sample.addresses
        if addresses and check.interface not in ("", egress_path.LOOPBACK)
    )
    return next(filter(None, warnings), "")

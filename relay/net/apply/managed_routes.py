"""Our routes of the main table, and foreign ones in their place, in one normalized form of the output of ip(8)."""

import json
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

from relay.core.escape import escape
from relay.errors import RelayError
from relay.net import system_commands
from relay.net.plan.machine import PROTOCOL, PlannedKernelState, PlannedRoute

_IPV6_METRIC = 1024  # what the kernel makes of 0 (IP6_RT_PRIO_USER)
_HUGE = 1 << 32
_TYPES = {"6": "blackhole", "7": "unreachable", "8": "prohibit"}  # RTN_*: `ip -N` names no type


@dataclass(frozen=True, slots=True, order=True)
class ManagedRouteLine:
    """One route of ours, as the words behind `ip route add` that make it."""

    version: int  # 4 or 6
    words: str

    @property
    def by(self) -> str:
        """The interface it leads out of; "" for an unreachable one."""
        words = self.words.split()
        return words[words.index("dev") + 1] if "dev" in words else ""

    def __str__(self) -> str:
        return f"ip -{self.version} route: {self.words}"


def conflicts(kernel: PlannedKernelState) -> tuple[tuple[str, str], ...]:
    """Routes of other programs with the destination and metric of ours: (the route, the command that removes it)."""
    wanted = {(_spelt(str(route.network)), _metric(route.network.version, route.metric)) for route in kernel.routes}
    found = []
    for version in (4, 6):
        for entry in _dump(version, "all"):
            network, metric = _destination(entry, version), _metric(version, _number(entry.get("metric")))
            if entry.get("protocol") != str(PROTOCOL) and (network, metric) in wanted:
                line = _read(entry, version)
                found.append((str(line), f"ip -{version} route del {line.words}"))
    return tuple(found)


def read_routes() -> tuple[ManagedRouteLine, ...]:
    """Our routes of the main table, in order. Raises RelayError where ip is missing or does not answer."""
    found = [_read(entry, version) for version in (4, 6) for entry in _dump(version, str(PROTOCOL))]
    return tuple(sorted(set(found)))


def _dump(version: int, protocol: str) -> list[dict[str, Any]]:
    """The main table's routes as ip(8) lists them; `protocol` a number or `all`."""
    which = () if protocol == "all" else ("proto", protocol)
    ended = system_commands.run("ip", f"-{version}", "-N", "-j", "route", "show", "table", "main", *which)
    if ended.status:
        if version == 6 and "not supported" in ended.complaint:  # a kernel without IPv6
            return []
        raise RelayError(f"the routes cannot be listed: {ended.why}")
    try:
        listed = json.loads(ended.output or "[]")
    except ValueError:
        raise RelayError("ip does not answer in JSON", "install a newer iproute2 (4.17 or later)") from None
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise RelayError("ip does not list routes as a list", "install a newer iproute2 (4.17 or later)")
    return listed


def _read(entry: dict[str, Any], version: int) -> ManagedRouteLine:
    """One route of ip's list in our spelling."""
    kind = str(entry.get("type", ""))
    kind = _TYPES.get(kind, kind if kind in _TYPES.values() else "")
    words = [kind] if kind else []
    words.append(_destination(entry, version))
    if not kind:
        words += _way(entry)
        if isinstance(entry.get("prefsrc"), str):
            words += ["src", entry["prefsrc"]]
    metric = _metric(version, _number(entry.get("metric")))
    if metric:
        words += ["metric", str(metric)]
    if not kind:
        for hop in _list(entry.get("nexthops")):
            if isinstance(hop, dict):
                words += ["nexthop", *_way(hop), "weight", str(_number(hop.get("weight")) or 1)]
    return ManagedRouteLine(version, " ".join(words))


def _way(entry: dict[str, Any]) -> list[str]:
    words: list[str] = []
    via = entry.get("via")
    if isinstance(entry.get("gateway"), str):
        words += ["via", entry["gateway"]]
    elif isinstance(via, dict):  # an IPv4 route by an IPv6 gateway
        words += ["via", str(via.get("family")), str(via.get("host"))]
    if isinstance(entry.get("dev"), str):
        words += ["dev", entry["dev"]]
    if "onlink" in _list(entry.get("flags")):
        words.append("onlink")
    return words


def route_line(route: PlannedRoute, name: str) -> ManagedRouteLine:
    """A planned route by the interface `name` ("": unreachable), in the form in which it will be read."""
    words = [] if name else ["unreachable"]
    words.append(_spelt(str(route.network)))
    if route.gateway is not None:
        other = ["inet6"] if route.gateway.version != route.network.version else []
        words += ["via", *other, str(route.gateway)]
    if name:
        words += ["dev", name]
    metric = _metric(route.network.version, route.metric)
    if metric:
        words += ["metric", str(metric)]
    return ManagedRouteLine(route.network.version, " ".join(words))


def _destination(entry: dict[str, Any], version: int) -> str:
    text = str(entry.get("dst", ""))
    return _spelt({"default": "0.0.0.0/0" if version == 4 else "::/0"}.get(text, text))


def _spelt(network: str) -> str:
    """A network in one spelling: a host's without its length."""
    try:
        parsed = ip_network(network)
    except ValueError:
        raise RelayError(f"ip lists a route to {escape(network, 80)!r}, which is no network") from None
    return str(ip_address(parsed.network_address)) if parsed.prefixlen == parsed.max_prefixlen else str(parsed)


def _metric(version: int, metric: int) -> int:
    return _IPV6_METRIC if version == 6 and not metric else metric


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _number(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value < _HUGE else 0

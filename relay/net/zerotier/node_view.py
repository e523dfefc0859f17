"""Answers of ZeroTier's local API as values: node, networks, peers and moons.

The routes in these answers are what the controller sent, not what the kernel has. A dead peer looks well in them for
minutes; only the age of what was last received shows it.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface, ip_network
from typing import Any

from relay.core.policy.model import Address, Network

_MOST_LISTED = 1000  # of networks, peers, moons, and of what each of them lists
_NODE = re.compile(r"[0-9a-f]{10}")
_NETWORK = re.compile(r"[0-9a-f]{16}")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_TEXT = re.compile(r"[!-~]{1,256}")
_ADDRESS = re.compile(r"[0-9A-Fa-f:./]{2,49}")  # no %scope, which may be any text


class ApiStatus(StrEnum):
    """Outcome of the request. Stable names: they are in the JSON output."""

    ANSWERS = "answers"
    NOT_INSTALLED = "not-installed"
    NOT_RUNNING = "not-running"
    TOKEN_UNREADABLE = "token-unreadable"  # noqa: S105 - no password: not root
    TOKEN_REFUSED = "token-refused"  # noqa: S105 - no password: the service has read another one
    SILENT = "silent"  # something listens, and did not answer in time
    GARBLED = "garbled"  # what answers is not ZeroTier


@dataclass(frozen=True, slots=True)
class PeerPath:
    """One way to a peer. `received`: seconds since something came by it, None: never."""

    endpoint: str  # address/port
    active: bool
    preferred: bool
    received: float | None


@dataclass(frozen=True, slots=True)
class Peer:
    """Another node. Without an active path it is reached through the roots only: relayed."""

    node: str
    role: str  # LEAF, PLANET (a root or a controller), MOON (a root of one's own)
    latency: float | None  # seconds
    version: str
    paths: tuple[PeerPath, ...]

    @property
    def path(self) -> PeerPath | None:
        """The way packets go now, None when there is no direct one."""
        active = [path for path in self.paths if path.active]
        return min(active, key=lambda path: not path.preferred, default=None)

    @property
    def heard(self) -> float | None:
        """Seconds since anything came from it, None: never."""
        return min((path.received for path in self.paths if path.received is not None), default=None)


@dataclass(frozen=True, slots=True)
class ManagedRoute:
    """One route as the controller sent it; `via` None: on-link."""

    target: Network
    via: Address | None


@dataclass(frozen=True, slots=True)
class JoinedNetwork:
    """One network that this node has joined."""

    id: str
    name: str
    status: str  # OK, ACCESS_DENIED, NOT_FOUND, REQUESTING_CONFIGURATION, PORT_ERROR ...
    interface: str
    assigned: tuple[IPv4Interface | IPv6Interface, ...]
    allow_managed: bool
    routes: tuple[ManagedRoute, ...]


@dataclass(frozen=True, slots=True)
class Moon:
    """A private root (Moon) that this node knows; `waiting`: requested, not received yet."""

    id: str
    roots: tuple[str, ...]
    waiting: bool


@dataclass(frozen=True, slots=True)
class NodeView:
    """The node's whole answer; everything behind `detail` is only known when `status` is ANSWERS.

    Without the token `online` and `version` are known all the same, where the service runs.
    """

    status: ApiStatus = ApiStatus.NOT_RUNNING
    detail: str = ""
    node: str = ""
    version: str = ""
    online: bool | None = None
    networks: tuple[JoinedNetwork, ...] = ()
    peers: tuple[Peer, ...] = ()
    moons: tuple[Moon, ...] = ()

    @property
    def answers(self) -> bool:
        """Whether networks, peers and moons are known."""
        return self.status is ApiStatus.ANSWERS

    def network(self, id: str) -> JoinedNetwork | None:
        """The joined network of this id."""
        return next((joined for joined in self.networks if joined.id == id), None)

    def peer(self, node: str) -> Peer | None:
        """The peer of this node address."""
        return next((peer for peer in self.peers if peer.node == node), None)


def parse_answers(answers: Mapping[str, tuple[int, object]]) -> NodeView:
    """The four answers, each (HTTP status, decoded JSON), as a view. Never raises.

    A value of the wrong form (an id that is none, an address that is none) is left out: ids and names end in
    commands for a person to type.
    """
    statuses = {status for status, _ in answers.values()}
    if statuses & {401, 403}:
        return NodeView(ApiStatus.TOKEN_REFUSED, "it answers 401 to this token")
    if statuses == {0}:
        return NodeView(ApiStatus.NOT_RUNNING)
    if statuses != {200}:
        return NodeView(ApiStatus.GARBLED, f"it answers {', '.join(map(str, sorted(statuses)))}")
    status = _object(answers.get("/status", (0, None))[1])
    node = _matched(_NODE, status.get("address"))
    if not node:
        return NodeView(ApiStatus.GARBLED, "its answer names no node")
    now = _number(status.get("clock"))
    return NodeView(
        ApiStatus.ANSWERS,
        "",
        node,
        _matched(_TEXT, status.get("version")),
        status.get("online") is True,
        tuple(filter(None, map(_joined, _objects(answers.get("/network", (0, None))[1])))),
        tuple(filter(None, (_peer(one, now) for one in _objects(answers.get("/peer", (0, None))[1])))),
        tuple(filter(None, map(_moon, _objects(answers.get("/moon", (0, None))[1])))),
    )


def parse_health(answer: object, why: str) -> NodeView:
    """The answer of /health as a view; `why` the token could not be used."""
    health = _object(answer)
    online = health.get("online")
    return NodeView(
        ApiStatus.TOKEN_UNREADABLE,
        why,
        version=_matched(_TEXT, health.get("version")),
        online=online if isinstance(online, bool) else None,
    )


def member(mac: str, network: str) -> str:
    """The node that has this MAC in this network, "" where it is no MAC that ZeroTier makes.

    A member's MAC is its node address and the network's id, mixed (MAC::fromAddress in ZeroTier's source).
    """
    if not _MAC.fullmatch(mac) or not _NETWORK.fullmatch(network):
        return ""
    raw, id = bytes.fromhex(mac.replace(":", "")), int(network, 16)
    first = (id & 0xFE) | 0x02  # locally administered, unicast
    if raw[0] != (0x32 if first == 0x52 else first):  # 0x52 is KVM's
        return ""
    return bytes(byte ^ (id >> 8 * at & 0xFF) for at, byte in enumerate(raw[1:], 1)).hex()


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(value: object) -> Iterable[dict[str, Any]]:
    return map(_object, value[:_MOST_LISTED]) if isinstance(value, list) else ()


def _list(value: object) -> list[object]:
    return value[:_MOST_LISTED] if isinstance(value, list) else []


def _matched(pattern: re.Pattern[str], value: object) -> str:
    return value if isinstance(value, str) and pattern.fullmatch(value) else ""


def _number(value: object) -> float:
    """A number of the API (milliseconds), -1 for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e15:  # year 33658
        return -1
    return float(value)


def _joined(one: dict[str, Any]) -> JoinedNetwork | None:
    id = _matched(_NETWORK, one.get("nwid", one.get("id")))
    if not id:
        return None
    name, interface, status = one.get("name"), one.get("portDeviceName"), one.get("status")
    return JoinedNetwork(
        id,
        name[:127] if isinstance(name, str) else "",
        _matched(_TEXT, status)[:40] or "UNKNOWN",
        interface[:15] if isinstance(interface, str) else "",
        tuple(filter(None, map(_interface, _list(one.get("assignedAddresses"))))),
        one.get("allowManaged") is True,
        tuple(filter(None, map(_route, _objects(one.get("routes"))))),
    )


def _interface(text: object) -> IPv4Interface | IPv6Interface | None:
    try:
        return ip_interface(text) if isinstance(text, str) and _ADDRESS.fullmatch(text) else None
    except ValueError:
        return None


def _route(one: dict[str, Any]) -> ManagedRoute | None:
    target, via = one.get("target"), one.get("via")
    if via and not _matched(_ADDRESS, via):
        return None
    try:
        return ManagedRoute(ip_network(_matched(_ADDRESS, target), strict=False), ip_address(via) if via else None)
    except ValueError:
        return None


def _peer(one: dict[str, Any], now: float) -> Peer | None:
    node = _matched(_NODE, one.get("address"))
    latency = _number(one.get("latency"))
    if not node:
        return None
    return Peer(
        node,
        _matched(_TEXT, one.get("role"))[:20],
        None if latency < 0 else latency / 1000,
        _matched(_TEXT, one.get("version"))[:20].replace("-1.-1.-1", ""),
        tuple(filter(None, (_path(path, now) for path in _objects(one.get("paths"))))),
    )


def _path(one: dict[str, Any], now: float) -> PeerPath | None:
    endpoint = _matched(_TEXT, one.get("address"))[:60]
    if not endpoint:
        return None
    return PeerPath(
        endpoint,
        one.get("active") is True and one.get("expired") is not True,
        one.get("preferred") is True,
        _age(now, one.get("lastReceive")),
    )


def _age(now: float, then: object) -> float | None:
    """Seconds from `then` to `now`, None where one of them is not known or `then` never was."""
    at = _number(then)
    return None if at <= 0 or now <= 0 else max(0.0, (now - at) / 1000)


def _moon(one: dict[str, Any]) -> Moon | None:
    id = _matched(_NETWORK, one.get("id"))
    if not id:
        return None
    identities = (root.get("identity") for root in _objects(one.get("roots")))
    roots = (_matched(_NODE, identity[:10]) for identity in identities if isinstance(identity, str))
    return Moon(id, tuple(filter(None, roots)), one.get("waiting") is True)

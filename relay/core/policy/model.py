"""What a policy is made of: zones, hosts, rules and the values that a judgement takes and gives."""

from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Zone:
    """A network reached by one interface. `interface` is a name or an fnmatch pattern; gateway None: on-link."""

    name: str
    networks: tuple[Network, ...]
    interface: str
    gateway: Address | None = None


@dataclass(frozen=True, slots=True)
class Host:
    """A name for an address in a zone. `user` and `port` only serve client-config."""

    name: str
    zone: str
    address: Address
    user: str = ""
    port: int = 22


@dataclass(frozen=True, slots=True)
class Destination:
    """What is judged and what is dialled, the same three values: rules compile to it, nothing is resolved by DNS."""

    zone: str
    address: Address
    port: int

    def __str__(self) -> str:
        host = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{host}:{self.port} in {self.zone}"


@dataclass(frozen=True, slots=True)
class TimeWindow:
    """Hours of the week, in the site's time zone. 0 is Monday; minutes count from midnight; end 1440 is midnight.

    A window whose end is not after its start runs past midnight into the next day.
    """

    days: frozenset[int] = frozenset(range(7))
    start: int = 0
    end: int = 1440


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule as compiled: persons instead of groups, (zone, network) pairs instead of names.

    `to` empty means nothing is matched (a rule never widens by leaving something out); `ports` are inclusive
    ranges; `sources` empty means from anywhere; `until` is Unix seconds, exclusive, None for ever.
    """

    name: str
    allow: bool
    persons: frozenset[str]
    everyone: bool
    excepted: frozenset[str]
    to: tuple[tuple[str, Network], ...]
    ports: tuple[tuple[int, int], ...]
    sources: tuple[Network, ...] = ()
    until: int | None = None
    windows: tuple[TimeWindow, ...] = ()
    file: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class RuleName:
    """Which rule decided: what the audit log records. Small on purpose, `policy.rules()` has the whole rule."""

    name: str
    file: str = ""
    line: int = 0

    @property
    def at(self) -> str:
        """file:line, where the rule stands."""
        return f"{self.file}:{self.line}"

    def __str__(self) -> str:
        return f"'{self.name}' ({self.at})"


class Reason(StrEnum):
    """Why a forward was judged as it was. Stable names: they stand in the audit log."""

    ALLOWED = "allowed"
    NO_RULE = "no-rule"  # nothing matches: deny
    DENY_RULE = "deny-rule"
    BAD_TARGET = "bad-target"  # not a well-formed host:port
    UNKNOWN_TARGET = "unknown-target"  # no such host, or an address in no zone
    AMBIGUOUS_TARGET = "ambiguous-target"
    FORBIDDEN_ADDRESS = "forbidden-address"  # refused whatever a rule says (invariant 4)
    KEY_UNLISTED = "key-unlisted"
    KEY_REVOKED = "key-revoked"
    KEY_EXPIRED = "key-expired"
    KEY_FROZEN = "key-frozen"  # shut out for a while, after a scan
    KEY_SOURCE = "key-source"  # from= of the key
    KEY_PRESENCE = "key-presence"  # a security key's signature lacks the touch or the verification asked for
    KEY_NO_FORWARDING = "key-no-forwarding"
    KEY_PERMITOPEN = "key-permitopen"
    NO_POLICY = "no-policy"  # nothing was ever applied


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a connection is, proven once when authentication completed, never changed afterwards."""

    person: str
    fingerprint: str  # SHA256:... as ssh-keygen -l prints it
    source: Address  # of the TCP connection, v4-mapped addresses already unmapped
    credential: str = "key"
    touched: bool = False  # sk-keys: the signature carried the user-presence flag
    verified: bool = False  # sk-keys: the signature carried the user-verification flag


@dataclass(frozen=True, slots=True)
class Decision:
    """A judgement. The zero value denies."""

    allowed: bool = False
    reason: Reason = Reason.NO_POLICY
    destination: Destination | None = None
    rule: RuleName | None = None  # the rule that decided, for the operator only
    detail: str = ""  # in full, for the operator only
    choices: tuple[str, ...] = field(default=())  # names to use instead, for AMBIGUOUS_TARGET

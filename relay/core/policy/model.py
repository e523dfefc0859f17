"""The values of a policy: zones, hosts, rules, and the inputs and result of a decision."""

from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Zone:
    """Networks reached through one interface. `interface` is a name or an fnmatch pattern; gateway None: on-link."""

    name: str
    networks: tuple[Network, ...]
    interface: str
    gateway: Address | None = None


@dataclass(frozen=True, slots=True)
class Host:
    """A name for an address in a zone. `user` and `port` are for client-config only."""

    name: str
    zone: str
    address: Address
    user: str = ""
    port: int = 22


@dataclass(frozen=True, slots=True)
class Destination:
    """The zone, address and port that are authorized and then dialled. Rules compile to them; DNS is never asked."""

    zone: str
    address: Address
    port: int

    def __str__(self) -> str:
        host = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{host}:{self.port} in {self.zone}"


@dataclass(frozen=True, slots=True)
class TimeWindow:
    """Hours on some days of the week, in the site's time zone. Day 0 is Monday; hours are minutes since midnight.

    A window whose end is not after its start ends on the next day.
    """

    days: frozenset[int] = frozenset(range(7))
    start: int = 0
    end: int = 1440


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule as compiled: persons instead of groups, (zone, network) pairs instead of names.

    An empty `to` matches nothing, so that a missing value never widens a rule; `ports` are inclusive ranges; empty
    `sources` mean any source; `until` is Unix seconds, exclusive, None without end.
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
    """The name and place of a rule, as the audit log records them; `Policy.rules()` has the whole rule."""

    name: str
    file: str = ""
    line: int = 0

    @property
    def at(self) -> str:
        """The rule's place as file:line."""
        return f"{self.file}:{self.line}"

    def __str__(self) -> str:
        return f"'{self.name}' ({self.at})"


class Reason(StrEnum):
    """The reason of a decision. The names are stable, because the audit log records them."""

    ALLOWED = "allowed"
    NO_RULE = "no-rule"  # no rule matches
    DENY_RULE = "deny-rule"
    BAD_TARGET = "bad-target"  # not a well-formed host:port
    UNKNOWN_TARGET = "unknown-target"  # no such host, or an address in no zone
    AMBIGUOUS_TARGET = "ambiguous-target"
    FORBIDDEN_ADDRESS = "forbidden-address"  # refused regardless of the rules (invariant 4)
    KEY_UNLISTED = "key-unlisted"
    KEY_REVOKED = "key-revoked"
    KEY_EXPIRED = "key-expired"
    KEY_FROZEN = "key-frozen"  # refused for a while after a scan
    KEY_SOURCE = "key-source"  # outside from= of the key
    KEY_PRESENCE = "key-presence"  # a security key's signature lacks the required touch or user verification
    KEY_NO_FORWARDING = "key-no-forwarding"
    KEY_PERMITOPEN = "key-permitopen"
    NO_POLICY = "no-policy"  # no policy was ever applied


@dataclass(frozen=True, slots=True)
class Identity:
    """The person, key and source of a session: set when authentication completes, never changed afterwards."""

    person: str
    fingerprint: str  # SHA256:... as ssh-keygen -l prints it
    source: Address  # of the TCP connection; a v4-mapped address is stored as IPv4
    credential: str = "key"
    touched: bool = False  # sk-keys: the signature carried the user-presence flag
    verified: bool = False  # sk-keys: the signature carried the user-verification flag


@dataclass(frozen=True, slots=True)
class Decision:
    """The result of a decision. The zero value denies."""

    allowed: bool = False
    reason: Reason = Reason.NO_POLICY
    destination: Destination | None = None
    rule: RuleName | None = None  # the deciding rule, for the operator only
    detail: str = ""  # the full reason, for the operator only
    choices: tuple[str, ...] = field(default=())  # names to use instead, for AMBIGUOUS_TARGET

"""Queries for rows of the audit log.

`AuditQuery.matches` is authoritative. The database only preselects rows; `audit tail` uses nothing else.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address

from relay.core.audit.checkpoint import SEALED
from relay.core.audit.event import Value
from relay.core.audit.hash_chain import Row
from relay.core.policy.model import Address, Network

ALLOWED = ("forward.opened", "forward.closed")
DENIED = ("forward.denied", "request.refused")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditQuery:
    """The conditions of a search; all given ones must hold, empty ones are ignored."""

    person: str = ""
    fingerprint: str = ""  # a prefix, with or without "SHA256:"
    host: str = ""  # the target's name or address as requested
    address: Address | None = None  # the target's address as requested or authorized
    port: int | None = None
    client: Network | None = None
    to: Network | None = None  # authorized addresses
    since: int | None = None  # UTC microseconds, inclusive
    until: int | None = None  # exclusive
    verdict: str = ""  # "allowed", "denied"
    name: str = ""
    text: str = ""  # in any text of the row, ASCII case-insensitive; ids match by prefix

    def names(self) -> tuple[str, ...]:
        """The event names that can match; empty: all."""
        if self.name:
            return (self.name,)
        return ALLOWED if self.verdict == "allowed" else DENIED if self.verdict == "denied" else ()

    def matches(self, row: Row) -> bool:
        """Whether this row matches."""
        event, fields = row.event, row.event.fields
        if self.since is not None and event.time < self.since:
            return False
        if self.until is not None and event.time >= self.until:
            return False
        return (
            self.has_name(event.name) and self.has_session(fields) and self.has_target(fields) and self._has_text(row)
        )

    def has_name(self, name: str) -> bool:
        """Whether an event of this name can match."""
        if (self.name or name) != name or (name == SEALED and not self.name):
            return False  # checkpoints are for `audit verify`, they would crowd out other rows
        return not self.verdict or name in (ALLOWED if self.verdict == "allowed" else DENIED)

    def has_session(self, fields: Mapping[str, Value]) -> bool:
        """Whether person, key and client match."""
        if self.person and fields.get("person") != self.person:
            return False
        if self.fingerprint and not str(fields.get("fingerprint") or "").startswith(full_fingerprint(self.fingerprint)):
            return False
        return self.client is None or _within(fields.get("client"), self.client)

    def has_target(self, fields: Mapping[str, Value]) -> bool:
        """Whether the target matches."""
        if self.to is not None and not _within(fields.get("address"), self.to):
            return False
        asked, port = fields.get("asked"), fields.get("port")
        if self.host or self.address is not None:
            host, judged = host_of(asked), fields.get("address")
            wanted = self.host.lower() if self.host else str(self.address)
            if host != wanted and (self.address is None or judged != str(self.address)):
                return False
        return self.port is None or port == self.port or (port is None and port_of(asked) == self.port)

    def _has_text(self, row: Row) -> bool:
        if not self.text:
            return True
        needle = lowered(self.text)
        fields = row.event.fields
        if any(lowered(id).startswith(needle) for id in _ids(row)):
            return True
        values = (row.event.name, *(value for key, value in fields.items() if key not in _ID_FIELDS))
        return any(needle in lowered(value) for value in values if isinstance(value, str))


_ID_FIELDS = ("connection", "forward")


def _ids(row: Row) -> Iterator[str]:
    yield row.event.id
    for key in _ID_FIELDS:
        value = row.event.fields.get(key)
        if isinstance(value, str):
            yield value


def full_fingerprint(prefix: str) -> str:
    """A fingerprint or a prefix of one, with "SHA256:"."""
    return prefix if prefix.startswith("SHA256:") else f"SHA256:{prefix}"


def lowered(text: str) -> str:
    """ASCII letters in lower case, others unchanged, as SQLite's LIKE compares."""
    return text.encode("utf-8", "replace").lower().decode("utf-8")


def host_of(asked: Value) -> str | None:
    """The host part of a requested target (`remote:22`, `[fd00::1]:22`), in lower case."""
    if not isinstance(asked, str):
        return None
    host, colon, _ = asked.rpartition(":")
    return (host if colon else asked).strip("[]").lower()


def port_of(asked: Value) -> int | None:
    """The port of a requested target, None without one."""
    if not isinstance(asked, str):
        return None
    digits = asked.rpartition(":")[2]
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 5 else None


def _within(value: Value, network: IPv4Network | IPv6Network) -> bool:
    if not isinstance(value, str):
        return False
    try:
        return ip_address(value) in network
    except ValueError:
        return False

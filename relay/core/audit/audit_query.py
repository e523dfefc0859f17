"""Which rows of the audit log does a reviewer ask for?

`Question.matches` is the law; the database only narrows down which rows are looked at, and `audit tail` uses
nothing else.
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
    """Everything given must hold; what is left out asks nothing."""

    person: str = ""
    fingerprint: str = ""  # a prefix, with or without "SHA256:"
    host: str = ""  # the target's name as asked, or an address as asked
    address: Address | None = None  # the target's address as asked or judged
    port: int | None = None
    client: Network | None = None
    to: Network | None = None  # judged addresses
    since: int | None = None  # UTC microseconds, inclusive
    until: int | None = None  # exclusive
    verdict: str = ""  # "allowed", "denied"
    name: str = ""
    text: str = ""  # in any text of the row, A and a alike; ids are matched from their beginning

    def names(self) -> tuple[str, ...]:
        """The event names that can answer; empty: any."""
        if self.name:
            return (self.name,)
        return ALLOWED if self.verdict == "allowed" else DENIED if self.verdict == "denied" else ()

    def matches(self, row: Row) -> bool:
        """Whether this row is one of those asked for."""
        event, fields = row.event, row.event.fields
        if self.since is not None and event.time < self.since:
            return False
        if self.until is not None and event.time >= self.until:
            return False
        return self.is_called(event.name) and self.is_of(fields) and self.reaches(fields) and self._says(row)

    def is_called(self, name: str) -> bool:
        """Whether an event of this name may answer."""
        if (self.name or name) != name or (name == SEALED and not self.name):
            return False  # a checkpoint a minute says nothing about anybody; `audit verify` is for those
        return not self.verdict or name in (ALLOWED if self.verdict == "allowed" else DENIED)

    def is_of(self, fields: Mapping[str, Value]) -> bool:
        """Whether person, key and client are those asked for."""
        if self.person and fields.get("person") != self.person:
            return False
        if self.fingerprint and not str(fields.get("fingerprint") or "").startswith(full_fingerprint(self.fingerprint)):
            return False
        return self.client is None or _within(fields.get("client"), self.client)

    def reaches(self, fields: Mapping[str, Value]) -> bool:
        """Whether the target is the one asked for."""
        if self.to is not None and not _within(fields.get("address"), self.to):
            return False
        asked, port = fields.get("asked"), fields.get("port")
        if self.host or self.address is not None:
            host, judged = host_of(asked), fields.get("address")
            wanted = self.host.lower() if self.host else str(self.address)
            if host != wanted and (self.address is None or judged != str(self.address)):
                return False
        return self.port is None or port == self.port or (port is None and port_of(asked) == self.port)

    def _says(self, row: Row) -> bool:
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
    """A fingerprint or the beginning of one, with its "SHA256:"."""
    return prefix if prefix.startswith("SHA256:") else f"SHA256:{prefix}"


def lowered(text: str) -> str:
    """ASCII letters in lower case, all others as they are: the same comparison that SQLite's LIKE makes."""
    return text.encode("utf-8", "replace").lower().decode("utf-8")


def host_of(asked: Value) -> str | None:
    """The host part of a target as asked (`remote:22`, `[fd00::1]:22`), in lower case."""
    if not isinstance(asked, str):
        return None
    host, colon, _ = asked.rpartition(":")
    return (host if colon else asked).strip("[]").lower()


def port_of(asked: Value) -> int | None:
    """The port of a target as asked, None when it has none."""
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

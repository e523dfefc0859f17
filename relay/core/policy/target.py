"""Targets: the host and port that a client requests, in one canonical form.

The grammar, after lower-casing and removal of one trailing dot (RFC 4254 7.2 leaves the form of the host open):

    target  = name | literal | literal "." zone        and a port from 1 to 65535
    name    = labels of [a-z0-9_-] joined by dots, the first of them not a number
    literal = dotted decimal IPv4 | IPv6 (RFC 4291), with or without brackets, no zone id

A host whose first label looks like a number is a literal or an error, never a name: text that inet_aton(3) accepts
as an address (010.1.1.1, 0x7f.1, 2130706433) must not have two meanings. A name therefore never looks like
`LITERAL.ZONE`, and `192.168.1.201.office` is split here. `remote.office` stays one name: only the inventory knows
whether it is a host of that name or the host `remote` in the zone `office`.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

from relay.core.escape import escape
from relay.core.policy.model import Address
from relay.errors import InputRejected

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")  # use fullmatch: `$` would accept a trailing newline
EVERYONE = "everyone"  # reserved: neither a person nor a group
LONGEST = 255  # bytes of a host: the longest DNS name (RFC 1035 2.3.4), longer than any NAME.ZONE

_HOST = re.compile(r"[a-z0-9][a-z0-9_-]*(?:\.[a-z0-9_-]+)*")
_IDNA = re.compile(r"(?:^|\.)xn--")  # an internationalised name in its ASCII form (RFC 5890 2.3.2.1)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")  # a label that inet_aton(3) accepts as part of an address
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,2}")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_PLAIN = "use the host's plain ASCII name from the inventory, not an internationalised domain name"
_NO_ZONE_ID = "leave out % and what follows; the policy knows the interface"
_DOTTED = "write an IPv4 address as four decimal numbers, like 192.168.1.201"


@dataclass(frozen=True, slots=True)
class Target:
    """A requested host and port in canonical form; all spellings of a target are equal.

    Either `name` or `address` is set, the other is "" or None. `zone` is the zone typed after a literal, else "".
    Made by `parse_target` and `parse_spec` only.
    """

    name: str
    address: Address | None
    zone: str
    port: int

    @property
    def host(self) -> str:
        """The host part as a user can type it: `remote`, `192.168.1.201.office`, `fd00::1.office`."""
        if self.address is None:
            return self.name
        return f"{self.address}.{self.zone}" if self.zone else str(self.address)

    def __str__(self) -> str:
        """`host:port`, IPv6 in brackets, zone inside them: the form that `ssh -W` accepts."""
        host = self.host
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


@lru_cache(maxsize=1024, typed=True)  # saves a tenth of a decision for repeated targets; errors are not cached
def parse_target(host: str | bytes, port: int) -> Target:
    """Parse the target of a client. `host` and `port` are untrusted: any bytes, any number.

    Raises InputRejected, whose text contains at most an escaped excerpt of the input.
    """
    if type(port) is not int or not 1 <= port <= 65535:  # excludes True, which is an int
        raise InputRejected(f"port {escape(str(port)[:12])} is not a port", "a port is a number from 1 to 65535")
    text = _readable(host)
    if ":" in text or "[" in text or "]" in text:
        address, zone = _v6(text)
        return Target("", address, zone, port)
    if not _HOST.fullmatch(text):
        raise InputRejected(f"{_shown(text)} is not a host", _cure(text))
    if _IDNA.search(text):
        raise InputRejected(f"{_shown(text)} is an internationalised domain name", _PLAIN)
    labels = text.split(".")
    if not _NUMBER.fullmatch(labels[0]):
        return Target(text, None, "", port)
    if len(labels) < 4:
        raise InputRejected(f"{_shown(text)} is a short form of an address, or a number", _DOTTED)
    zone = _zone(".".join(labels[4:]), text) if len(labels) > 4 else ""
    return Target("", _v4(labels[:4], text), zone, port)


def parse_spec(spec: str) -> Target:
    """Parse `HOST:PORT` as users write it: `remote:22`, `192.168.1.201:22`, `[fd00::1]:22`.

    Raises InputRejected, also for an IPv6 address without brackets, whose port would be ambiguous.
    """
    host, colon, port = spec.rpartition(":")
    if not colon or not _PORT.fullmatch(port):
        cure = "write HOST:PORT, like remote:22 or [fd00::1]:22"
        raise InputRejected(f"{_shown(spec)} does not end in a port from 1 to 65535", cure)
    if ":" in host and not host.startswith("["):
        raise InputRejected(f"{_shown(spec)} has more than one colon", "put an IPv6 address in brackets: [fd00::1]:22")
    return parse_target(host, int(port))


def name_fault(text: str) -> str | None:
    """Why `text` cannot name a person, a group, a host or a zone; None if it can."""
    if NAME.fullmatch(text):
        return None
    shown = _shown(text)
    if not text:
        return "a name is empty"
    if len(text) > 32:
        return f"the name {shown} is longer than 32 characters"
    if text != text.lower():
        return f"the name {shown} has capital letters; names are lower case"
    if not NAME.fullmatch(text[0]):
        return f"the name {shown} does not begin with a letter or a digit"
    return f"the name {shown} has more than the letters a to z, digits, '.', '_' and '-'"


def place_fault(text: str) -> str | None:
    """Why `text` cannot name a host or a zone; None if it can.

    Names and IP addresses are typed in the same place, so beyond `name_fault`: no empty label, no internationalised
    name, and no name whose first label is a number.
    """
    fault = name_fault(text)
    if fault:
        return fault
    if not _HOST.fullmatch(text):
        return f"the name {_shown(text)} has a dot at its end or two in a row"
    if _IDNA.search(text):
        return f"the name {_shown(text)} is an internationalised domain name; use plain ASCII"
    if _NUMBER.fullmatch(text.partition(".")[0]):
        return f"the name {_shown(text)} begins with a number, so it could be taken for an address"
    return None


def _readable(host: str | bytes) -> str:
    """Printable lower-case ASCII without a trailing dot."""
    if len(host) > LONGEST:
        raise InputRejected(f"the host is longer than {LONGEST} bytes", "check what the client sends")
    if not host.isascii():
        raise InputRejected(f"{_shown(host)} has letters that are not ASCII", _PLAIN)
    text = host.decode("ascii") if isinstance(host, bytes) else host
    if not text:
        raise InputRejected("the host is empty", "name a host of the inventory, like remote")
    if not text.isprintable() or " " in text:
        raise InputRejected(f"{_shown(text)} has spaces or control characters", "check what the client sends")
    return text.lower().removesuffix(".")


def _v4(octets: list[str], text: str) -> IPv4Address:
    value = 0
    for octet in octets:
        if not _DECIMAL.fullmatch(octet) or int(octet) > 255:
            octal = octet.isdigit() and octet.startswith("0")
            what = "has an octet with a leading zero (octal?)" if octal else "is not an IPv4 address"
            raise InputRejected(f"{_shown(text)} {what}", _DOTTED)
        value = value << 8 | int(octet)
    return IPv4Address(value)


def _v6(text: str) -> tuple[Address, str]:
    """An IPv6 literal and its zone: [A], A, [A].zone, [A.zone], A.zone; a v4-mapped one becomes IPv4."""
    inner, zone = text, ""
    if text.startswith("["):
        inner, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(".")):
            raise InputRejected(f"{_shown(text)} has unbalanced brackets", "write [fd00::1]")
        zone = _zone(rest[1:], text) if rest else ""
    if "%" in inner:
        raise InputRejected(f"{_shown(text)} has a zone id", _NO_ZONE_ID)
    if ":" not in inner:
        raise InputRejected(f"{_shown(text)} is not an IPv6 address", "brackets are for IPv6 only, like [fd00::1]")
    head, _, tail = inner.rpartition(":")
    labels = tail.split(".")
    # the last group is one hextet or four octets; labels after it are the zone
    size = 4 if len(labels) >= 4 and all(label.isdigit() for label in labels[:4]) else 1
    if len(labels) > size:
        if zone:
            raise InputRejected(f"{_shown(text)} names two zones", "write [fd00::1.office]")
        zone = _zone(".".join(labels[size:]), text)
    last = labels[0]
    if size == 4:
        embedded = int(_v4(labels[:4], text))
        last = f"{embedded >> 16:x}:{embedded & 0xFFFF:x}"
    try:
        address = IPv6Address(f"{head}:{last}")
    except ValueError:
        raise InputRejected(f"{_shown(text)} is not an IPv6 address", "write it like fd00::1") from None
    return address.ipv4_mapped or address, zone


def _zone(zone: str, text: str) -> str:
    if place_fault(zone):
        what = f"{_shown(text)} does not end in the name of a zone"
        raise InputRejected(what, "write ADDRESS.ZONE, like 192.168.1.201.office")
    return zone


def _cure(text: str) -> str:
    if "@" in text:
        return "write NAME.ZONE, not NAME@ZONE: ssh reads that as a user"
    if "%" in text:
        return _NO_ZONE_ID
    if "/" in text:
        return "name one host, not a network or a URL"
    return "a host is a name of the inventory or an address"


def _shown(text: str | bytes) -> str:
    return f"'{escape(text, 60)}'"

"""Options of a line in authorized_keys.

They mean the same as in OpenSSH (sshd(8), AUTHORIZED_KEYS FILE FORMAT; auth-options.c where the page is silent), with
one difference: an unsupported option that narrows what a key may do is a fault instead of being ignored.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv6Address, ip_address, ip_network

from relay.core.escape import escape
from relay.core.policy.model import Address, Network
from relay.core.policy.target import Target, parse_target
from relay.core.policy.time_conditions import Offsets, local
from relay.errors import InputRejected

SOURCES_MOST = 256  # patterns in from=: each is compared at every decision
PERMITOPEN_MOST = 256  # the same

# These grant or remove what the relay never offers: shell, terminal, agent, X11, -R, tunnel.
_FLAGS_WITHOUT_EFFECT = frozenset({"pty", "x11-forwarding", "agent-forwarding", "user-rc"})
_TEXTS_WITHOUT_EFFECT = frozenset({"command", "environment", "permitlisten", "tunnel"})
_CURES = {
    "cert-authority": "certificates are not supported; list the persons' own keys",
    "principals": "it is for certificate authorities only: remove it",
    "no-touch-required": "touching the security key is always required: remove it",
}

# possessive, so that matching takes linear time and \" is never split
_OPTION = re.compile(r'([A-Za-z0-9-]+)(?:=("(?:[^"\\]|\\"?+)*+"))?')
_TIME = re.compile(r"(\d{8}|\d{12}|\d{14})(z|utc)?", re.ASCII | re.IGNORECASE)
_ADDRESS_PATTERN = re.compile(r"[0-9.*?]*[*?][0-9.*?]*|(?=[^:]*:)[0-9a-f:.*?]*[*?][0-9a-f:.*?]*")


@dataclass(frozen=True, slots=True)
class FromPattern:
    """One pattern of from=: a network, or (`network` None) a wildcard compared with the address text."""

    text: str  # as listed, without the !
    network: Network | None
    negated: bool

    def matches(self, address: Address, address_text: str) -> bool:
        """Whether the address matches the pattern; the caller applies the negation."""
        if self.network is not None:
            return address in self.network
        return wildcard(self.text, address_text)

    def __str__(self) -> str:
        return f"!{self.text}" if self.negated else self.text


@dataclass(frozen=True, slots=True)
class PermitOpen:
    """One permitopen=. `host` None is any host (`*`); `port` 0 is any port. `host.port` is unused."""

    host: Target | None
    port: int
    text: str  # in canonical form


@dataclass(frozen=True, slots=True)
class KeyOptions:
    """The parsed options of a key; without options it may forward, from any source, without end."""

    sources: tuple[FromPattern, ...] = ()  # empty: from= was not given
    expires: int | None = None  # Unix seconds
    permitopen: tuple[PermitOpen, ...] | None = None  # None: not given
    forwarding: bool = True
    verify_required: bool = False
    without_effect: tuple[str, ...] = ()  # as written, shortened


def advance(line: str) -> int:
    """The end of the options at the start of `line`: its first space or tab outside quotes, or its end.

    Raises InputRejected for an unclosed quote.
    """
    quoted = False
    at = 0
    while at < len(line):
        letter = line[at]
        if letter == "\\" and line[at + 1 : at + 2] == '"':
            at += 1  # an escaped quote neither opens nor closes
        elif letter == '"':
            quoted = not quoted
        elif not quoted and letter in " \t":
            break
        at += 1
    if quoted:
        raise InputRejected("an option's quote \" is never closed", 'every value stands in quotes: from="192.0.2.1"')
    return at


def parse(text: str, *, offsets: Offsets = ()) -> KeyOptions:
    """Parse the options `text`. Raises InputRejected, with a hint, for the first unsupported one.

    `offsets` are the site's time zone as (UTC seconds of a change, UTC offset in seconds from then on), sorted; empty
    is UTC. Only expiry-time= without Z needs them.
    """
    sources: tuple[FromPattern, ...] = ()
    expires: int | None = None
    permitopen: list[PermitOpen] | None = None
    forwarding = True
    verify_required = False
    without_effect: list[str] = []
    once: set[str] = set()
    for written, value in _split(text):
        name = written.lower()
        positive = name.removeprefix("no-")
        if value is None and name == "restrict":
            forwarding = False
        elif value is None and positive == "port-forwarding":
            forwarding = name == positive
        elif value is None and positive == "verify-required":
            verify_required = name == positive
        elif value is None and name == "touch-required":
            pass  # a touch is always required
        elif value is None and positive in _FLAGS_WITHOUT_EFFECT:
            without_effect.append(written)
        elif value is not None and name in _TEXTS_WITHOUT_EFFECT:
            without_effect.append(f"{written}={escape(value, 60)}")
        elif value is not None and name == "from":
            sources = _sources(value)
        elif value is not None and name == "expiry-time":
            instant = parse_time(value, offsets)
            expires = instant if expires is None else min(expires, instant)  # the earliest, as in OpenSSH
        elif value is not None and name == "permitopen":
            permitopen = [] if permitopen is None else permitopen
            if len(permitopen) == PERMITOPEN_MOST:
                raise InputRejected(f"more than {PERMITOPEN_MOST} permitopen=", "restrict the hosts by policy instead")
            permitopen.append(_permit(value))
        else:
            _refuse(written, value)
        if name in ("from", "command"):
            if name in once:
                raise InputRejected(f"{name}= is given twice", "one list in one pair of quotes, separated by commas")
            once.add(name)
    return KeyOptions(
        sources,
        expires,
        None if permitopen is None else tuple(permitopen),
        forwarding,
        verify_required,
        tuple(without_effect),
    )


def parse_time(text: str, offsets: Offsets = ()) -> int:
    """Parse the value of expiry-time= (YYYYMMDD[HHMM[SS]][Z]) to Unix seconds. Raises InputRejected.

    A local time that occurs twice or never, at a change of clocks, is the earlier instant.
    """
    match = _TIME.fullmatch(text)
    cure = "write YYYYMMDD, YYYYMMDDHHMM or YYYYMMDDHHMMSS, with Z at the end for UTC"
    if match is None:
        raise InputRejected(f"expiry-time={escape(text, 30)!r} is not a time", cure)
    digits = match[1]
    fields = [int(digits[:4]), *(int(digits[at : at + 2]) for at in range(4, len(digits), 2))]
    try:
        # local time as if it were UTC; the offset is applied below
        wall = int(datetime(*fields, tzinfo=UTC).timestamp())  # type: ignore[arg-type, misc]  # 3 to 6 ints
    except ValueError:
        raise InputRejected(f"expiry-time={text!r} is not a date of the calendar", cure) from None
    if wall < 0:
        raise InputRejected(f"expiry-time={text!r} lies before 1970", cure)
    if match[2] or not offsets:
        return wall
    return max(local_to_utc(wall, offsets), 0)


def local_to_utc(wall: int, offsets: Offsets) -> int:
    """The instant (Unix seconds) at which local time is `wall` (seconds since 1970 as if it were UTC).

    The earlier one if there are two. In a gap the one by the larger offset, which is the earlier one too.
    """
    # offsets are below a day and change at most once in two days: one of these two is right
    near = {local(at, offsets) - at for at in (wall - 86_400, wall + 86_400)}
    instants = sorted(wall - offset for offset in near)
    return next((instant for instant in instants if local(instant, offsets) == wall), instants[0])


def wildcard(pattern: str, text: str) -> bool:
    """Whether `text` matches `pattern` with * and ?. Takes at most len(pattern) * len(text) steps."""
    at = mark = back = 0
    star = -1
    while mark < len(text):
        if at < len(pattern) and pattern[at] == "*":
            star, back = at, mark
            at += 1
        elif at < len(pattern) and pattern[at] in ("?", text[mark]):
            at += 1
            mark += 1
        elif star >= 0:
            back += 1  # the last star matches one more character
            at, mark = star + 1, back
        else:
            return False
    return mark == len(text) and not pattern[at:].strip("*")


def _split(text: str) -> list[tuple[str, str | None]]:
    """The options as pairs (name as written, unquoted value or None)."""
    options: list[tuple[str, str | None]] = []
    at = 0
    while True:
        match = _OPTION.match(text, at)
        if match is None:
            shown = escape(text[at : at + 40]) or "nothing"
            raise InputRejected(f"an option was expected where {shown!r} stands", "see sshd(8), AUTHORIZED_KEYS")
        value = match[2]
        options.append((match[1], None if value is None else value[1:-1].replace('\\"', '"')))
        at = match.end()
        if at == len(text):
            return options
        if text[at] != ",":
            cure = f'values stand in quotes: {match[1]}="..."' if text[at] == "=" else "options are separated by commas"
            raise InputRejected(f"after the option {match[1][:40]!r} comes {escape(text[at : at + 20])!r}", cure)
        at += 1


def _refuse(written: str, value: str | None) -> None:
    name = written.lower()
    shown = escape(written, 40)
    if name in _CURES:
        raise InputRejected(f"the option {shown!r} is not supported", _CURES[name])
    if name in _TEXTS_WITHOUT_EFFECT | {"from", "expiry-time", "permitopen"}:
        raise InputRejected(f"the option {shown!r} has no value", f'write {name}="..."')
    if value is not None and name.removeprefix("no-") in _FLAGS_WITHOUT_EFFECT | {"port-forwarding", "restrict"}:
        raise InputRejected(f"the option {shown!r} takes no value", f"write {name} alone")
    raise InputRejected(
        f"the option {shown!r} is not known",
        "known are from, expiry-time, permitopen, restrict, port-forwarding, verify-required; see sshd(8)",
    )


def _sources(value: str) -> tuple[FromPattern, ...]:
    words = value.split(",")
    if len(words) > SOURCES_MOST:
        raise InputRejected(f"from= has more than {SOURCES_MOST} patterns", "write networks: 192.0.2.0/24")
    return tuple(_source(word) for word in words)


def _source(word: str) -> FromPattern:
    negated = word.startswith("!")
    text = word[negated:].lower()
    shown = escape(word, 60)
    cure = "write addresses or networks, separated by commas: 203.0.113.7,192.0.2.0/24"
    if not text:
        raise InputRejected("from= has an empty pattern", cure)
    if len(text) <= 45 and _ADDRESS_PATTERN.fullmatch(text):  # 45: the longest text of an IPv6 address
        return FromPattern(text, None, negated)
    head, slash, length = text.partition("/")
    # ASCII digits only: ip_network would accept a netmask, which OpenSSH does not
    if not text.isascii() or "%" in head or (slash and not re.fullmatch(r"[0-9]{1,3}", length)):
        raise InputRejected(f"from= has {shown!r}, which is no address or network", cure)
    try:
        address = ip_address(head)
    except ValueError:
        raise InputRejected(
            f"from= has {shown!r}, which is no address: names are never looked up, so it matches nothing", cure
        ) from None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        raise InputRejected(f"from= has {shown!r}, an IPv4-mapped address", f"write {address.ipv4_mapped}")
    try:
        network = ip_network(f"{address}/{length}" if slash else str(address))
    except ValueError:
        try:
            right = f"write {ip_network(f'{address}/{length}', strict=False)}, or the address alone"
        except ValueError:
            right = "an IPv4 network has a length of 0 to 32, an IPv6 one 0 to 128"
        raise InputRejected(f"from= has {shown!r}, whose length does not fit its address", right) from None
    return FromPattern(str(network) if slash else str(address), network, negated)


def _permit(value: str) -> PermitOpen:
    shown = escape(value, 80)
    host, colon, port_text = value.rpartition(":")
    cure = 'write permitopen="HOST:PORT", [ADDRESS]:PORT for IPv6, * for any port'
    if not colon or not host or (":" in host and not (host.startswith("[") and host.endswith("]"))):
        raise InputRejected(f"permitopen={shown!r} is not host:port", cure)
    port = 0
    if port_text != "*":
        if not re.fullmatch(r"[0-9]{1,5}", port_text) or not 1 <= int(port_text) <= 65535:
            raise InputRejected(f"permitopen={shown!r} has no port from 1 to 65535", cure)
        port = int(port_text)
    shown_port = str(port) if port else "*"
    if host == "*":
        return PermitOpen(None, port, f"*:{shown_port}")
    try:
        target = parse_target(host, port or 1)
    except InputRejected as error:
        raise InputRejected(f"permitopen={shown!r}: {error.what}", error.hint) from None
    return PermitOpen(
        target, port, f"[{target.host}]:{shown_port}" if ":" in target.host else f"{target.host}:{shown_port}"
    )

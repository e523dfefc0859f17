"""Parsers of the scalar values in a site's files: names, addresses, networks, ports, listeners, sizes.

Each function takes a YAML value of any type and returns a parsed value, or raises InputRejected with a hint.
"""

import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from ipaddress import IPv6Address, IPv6Network, ip_address, ip_network

from relay.core.escape import escape
from relay.core.policy.model import Address, Network
from relay.core.policy.target import name_fault, parse_spec, place_fault
from relay.errors import InputRejected

_INTERFACE = re.compile(r"[A-Za-z0-9_.@:*?-]{1,15}")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@\\-]{0,63}")
_DNS = re.compile(r"(?=.{1,253}$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_NUMERIC = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)(?:\.(?:[0-9]+|0x[0-9a-f]*))*")  # an address to inet_aton(3)
_PATH = re.compile(r"/[A-Za-z0-9._/-]{0,98}[A-Za-z0-9]")  # sun_path holds 107 bytes (unix(7))
_SIZE = re.compile(r"([0-9]{1,12})(B|KiB|MiB|GiB)")
_SIZES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_PORTS = re.compile(r"([0-9]{1,5}) ?- ?([0-9]{1,5})")


def text(value: object, cure: str = "") -> str:
    """`value` if it is a string; numbers and booleans are refused, because YAML read the text as something else."""
    if isinstance(value, str):
        return value
    if value is None:
        raise InputRejected("there is no value", cure or "write one, or remove the key")
    if isinstance(value, (list, dict)):
        raise InputRejected(
            f"a {'list' if isinstance(value, list) else 'mapping'} where text is expected", cure or "write one value"
        )
    shown = str(value).lower() if isinstance(value, bool) else str(value)
    raise InputRejected(f"{shown[:40]} is not text", cure or f'put it in quotes: "{shown[:40]}"')


def name(value: object) -> str:
    """A name of a person, group, host or zone."""
    return _checked(text(value), name_fault)


def place(value: object) -> str:
    """A name of a host or zone, which must also be valid as a target."""
    return _checked(text(value), place_fault)


def _checked(given: str, fault_of: Callable[[str], str | None]) -> str:
    fault = fault_of(given)
    if fault:
        lower = given.lower()
        cure = "1 to 32 of a-z 0-9 . _ - and a letter or digit first"
        raise InputRejected(fault, f"write {lower}" if lower != given and not fault_of(lower) else cure)
    return given


def address(value: object) -> Address:
    """One IPv4 or IPv6 address without zone id; IPv4-mapped IPv6 is refused."""
    given = text(value, "write an address like 192.168.1.201")
    try:
        found = ip_address(given)
    except ValueError:
        raise InputRejected(
            f"{escape(given, 60)!r} is not an address", "write one like 192.168.1.201 or fd00::1"
        ) from None
    return _plain(found)


def _plain(found: Address) -> Address:
    if isinstance(found, IPv6Address):
        if found.scope_id:
            raise InputRejected(f"{found} has a zone id", "the zone's `interface` says where it is")
        if found.ipv4_mapped:
            raise InputRejected(f"{found} is an IPv4-mapped address", f"write {found.ipv4_mapped}")
    return found


def network(value: object) -> Network:
    """A network in CIDR form, or one address; host bits are refused."""
    given = text(value, "write a network like 192.168.1.0/24")
    try:
        found = ip_network(given)
    except ValueError:
        pass
    else:
        _plain(found.network_address)
        if isinstance(found, IPv6Network) and found.supernet_of(IPv6Network("::ffff:0:0/96")) and found.prefixlen > 0:
            raise InputRejected(f"{found} contains IPv4-mapped addresses", "write the IPv4 network")
        return found
    try:
        wide = ip_network(given, strict=False)
    except ValueError:
        raise InputRejected(f"{escape(given, 60)!r} is not a network", "write one like 192.168.1.0/24") from None
    raise InputRejected(
        f"{escape(given, 60)} has host bits set",
        f"write {wide} for the network or {given.partition('/')[0]} for the address",
    )


def ports(value: object) -> tuple[int, int]:
    """One port (22) or a range ("8000-8100") as inclusive bounds, 1 to 65535."""
    low: int
    if isinstance(value, int) and not isinstance(value, bool):
        low = high = value
    else:
        given = text(value, 'write 22 or "8000-8100"')
        found = _PORTS.fullmatch(given)
        if found:
            low, high = int(found[1]), int(found[2])
        elif given.isascii() and given.isdigit() and len(given) <= 5:
            low = high = int(given)
        else:
            raise InputRejected(f"{escape(given, 40)!r} is not a port", 'write 22 or "8000-8100"')
    if low > high:
        raise InputRejected(f"the ports {low}-{high} are reversed", f'write "{high}-{low}"')
    if low < 1 or high > 65535:
        raise InputRejected(f"no port {str(low if low < 1 else high)[:20]}", "ports are 1 to 65535")
    return low, high


def port(value: object) -> int:
    """One port."""
    low, high = ports(value)
    if low != high:
        raise InputRejected(f"{low}-{high} is a range", "write one port")
    return low


def interface(value: object) -> str:
    """An interface's name or a pattern with * and ?; patterns that match any interface, or lo, are refused."""
    given = text(value)
    if not _INTERFACE.fullmatch(given) or given in (".", ".."):
        raise InputRejected(
            f"{escape(given, 40)!r} is not an interface",
            'write its name (wg0) or a pattern ("zt*"), at most 15 letters',
        )
    if given[0] in "*?" or (given != "lo" and fnmatchcase("lo", given)):
        raise InputRejected(
            f"the interface {given!r} matches any interface, also the public one", 'begin it with a name, like "zt*"'
        )
    return given


def user(value: object) -> str:
    """A login name on a host, as it goes into an ssh configuration."""
    given = text(value)
    if not _USER.fullmatch(given):
        raise InputRejected(f"{escape(given, 40)!r} is not a login name", "write one like ubuntu")
    return given


def title(value: object) -> str:
    """A rule's name: free text on one line, recorded in the audit log."""
    given = text(value).strip()
    if not given or len(given) > 120 or not given.isprintable():
        raise InputRejected("the rule's name must be 1 to 120 printable characters on one line", "name: what it is for")
    return given


def _split(given: str, cure: str) -> tuple[str, int | None]:
    """host and port of `host:port`, `[v6]:port` or `host`."""
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::([0-9]{1,5}))?", given)
    plain = re.fullmatch(r"([^:\[\]]*)(?::([0-9]{1,5}))?", given)
    found = bracketed or plain
    if not found or (found[2] and int(found[2]) > 65535):
        raise InputRejected(f"{escape(given, 60)!r} is not host:port", cure)
    return found[1], int(found[2]) if found[2] else None


def listener(value: object) -> str:
    """An address and port to listen on, canonical. Port 0 lets the kernel choose (for tests)."""
    cure = 'write one like "0.0.0.0:2222" or "[::]:2222"'
    given = text(value, cure)
    host, number = _split(given, cure)
    if number is None:
        raise InputRejected(f"{escape(given, 60)!r} has no port", cure)
    try:
        found = _plain(ip_address(host))
    except ValueError:
        raise InputRejected(f"{escape(given, 60)!r} has no address: names are not looked up", cure) from None
    return f"[{found}]:{number}" if found.version == 6 else f"{found}:{number}"


def listener_parts(canonical: str) -> tuple[Address | None, int]:
    """(address, port) of a canonical listener; None for every address of the machine."""
    host, _, number = canonical.rpartition(":")
    found = ip_address(host.strip("[]"))
    return (None if found.is_unspecified else found), int(number)


def window(value: object) -> str:
    """The listener for metrics: a loopback ADDRESS:PORT, the path of a Unix socket, or "" for `off`."""
    cure = 'write off, a loopback port like "127.0.0.1:9422", or a path like /run/relay/metrics.sock'
    given = text(value, cure)
    if given == "off":
        return ""
    if given.startswith("/"):
        if not _PATH.fullmatch(given) or ".." in given.split("/"):
            raise InputRejected(f"{escape(given, 60)!r} is not a plain path of at most 100 characters", cure)
        if given.endswith(("/control.sock", "/workers.sock")):
            raise InputRejected(f"{given} is a socket of the relay's own", cure)
        return given
    found = listener(given)
    address, _ = listener_parts(found)
    if address is None or not address.is_loopback:
        raise InputRejected(
            f"{escape(given, 60)!r} is not a loopback address, and metrics have no access control", cure
        )
    return found


def anchors(value: object) -> str:
    """Where the audit log's anchors go: the path of a file, `syslog`, or "" for `off`."""
    cure = "write off, syslog, or a path like /var/log/relay-anchors"
    given = text(value, cure)
    if given in ("off", "syslog"):
        return "" if given == "off" else given
    if not _PATH.fullmatch(given) or ".." in given.split("/"):
        raise InputRejected(f"{escape(given, 60)!r} is not a plain path of at most 100 characters", cure)
    return given


def public(value: object) -> str:
    """`host:port` under which clients reach the relay; the default port is 22."""
    cure = "write the address for clients: relay.example.com:22"
    given = text(value, cure).lower()
    host, number = _split(given, cure)
    number = 22 if number is None else number
    if number == 0:
        raise InputRejected("port 0 cannot be reached", cure)
    try:
        found = _plain(ip_address(host))
    except ValueError:
        if not _DNS.fullmatch(host) or _NUMERIC.fullmatch(host):
            raise InputRejected(f"{escape(given, 60)!r} is not host:port", cure) from None
        return str(parse_spec(f"{host}:{number}"))  # in the canonical form that the policy compares
    return f"[{found}]:{number}" if found.version == 6 else f"{found}:{number}"


def size(value: object) -> int:
    """Bytes of `64KiB`, `1MiB`, `512B`."""
    given = text(value, "write a number and a unit: 64KiB, 1MiB")
    found = _SIZE.fullmatch(given)
    if not found:
        raise InputRejected(f"{escape(given, 40)!r} is not a size", "write a number and a unit: 64KiB, 1MiB")
    return int(found[1]) * _SIZES[found[2]]


def patterns_meet(one: str, other: str) -> bool:
    """Whether some interface name matches both patterns of literal letters, * and ?."""
    reached = {(0, 0)}
    seen = set(reached)
    while reached:
        left, right = reached.pop()
        if left == len(one) and right == len(other):
            return True
        steps = []
        if left < len(one) and one[left] == "*":
            steps.append((left + 1, right))
        if right < len(other) and other[right] == "*":
            steps.append((left, right + 1))
        if left < len(one) and right < len(other):
            a, b = one[left], other[right]
            if a == "*":
                steps.append((left, right + 1))
            if b == "*":
                steps.append((left + 1, right))
            if a not in "*" and b not in "*" and (a == b or "?" in (a, b)):
                steps.append((left + 1, right + 1))
        reached.update(set(steps) - seen)
        seen.update(steps)
    return False

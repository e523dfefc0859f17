"""One ICMP echo through a given interface, sent with ping(8) of iputils.

Only commands send echoes: a serving process runs no program. The answer is read from what ping prints with LC_ALL=C.
Anything that is not in the format of iputils is an error, never silence.
"""

import errno
import os
import re
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address

from relay.core.policy.model import Address
from relay.errors import NotPermitted, RelayError
from relay.net import system_commands
from relay.net.system_commands import CommandResult

_GRACE = 5.0  # seconds beyond the time for the answer: starting a program on a slow machine
_REPLY = re.compile(r"^[0-9]+ bytes from (\S+): icmp_seq=1 ttl=[0-9]+ time=([0-9.]+) ms", re.MULTILINE)
_ICMP_ERROR = re.compile(r"^From (\S+) icmp_seq=1 (.+)$", re.MULTILINE)
_OWN_ADDRESS = re.compile(r"^PING \S+ ?\(\S+\) from (\S+) ", re.MULTILINE)  # printed when an interface is given
_TOO_BIG = re.compile(r"(?:Frag needed and DF set \(mtu = |Packet too big: mtu=)([0-9]+)")
_LOCALLY_TOO_BIG = re.compile(r"^\S*ping: local error: message too long, mtu(?:=|: )([0-9]+)$", re.MULTILINE)
_LOCAL_ERROR = re.compile(r"^\S*ping: (?:connect|sendmsg|local error): (.+)$", re.MULTILINE)
_STATISTICS = re.compile(r"^1 packets transmitted, [01] received", re.MULTILINE)
_TIME_EXCEEDED = frozenset({"Time to live exceeded", "Time exceeded: Hop limit"})
# the words of ping for ICMP codes: RFC 792 and RFC 1812 5.2.7.1, and RFC 4443 3.1 for IPv6
_UNREACHABLE = {
    4: {
        "Destination Net Unreachable": (0, "network unreachable"),
        "Destination Host Unreachable": (1, "host unreachable"),
        "Destination Protocol Unreachable": (2, "protocol unreachable"),
        "Destination Port Unreachable": (3, "port unreachable"),
        "Source Route Failed": (5, "source route failed"),
        "Destination Net Unknown": (6, "network unknown"),
        "Destination Host Unknown": (7, "host unknown"),
        "Destination Net Prohibited": (9, "network prohibited"),
        "Destination Host Prohibited": (10, "host prohibited"),
        "Packet filtered": (13, "prohibited by a packet filter"),
    },
    6: {
        "Destination unreachable: No route": (0, "no route"),
        "Destination unreachable: Administratively prohibited": (1, "prohibited by a packet filter"),
        "Destination unreachable: Beyond scope of source address": (2, "beyond the source's scope"),
        "Destination unreachable: Address unreachable": (3, "address unreachable"),
        "Destination unreachable: Port unreachable": (4, "port unreachable"),
        "Destination unreachable: Unknown code 5": (5, "source address failed a policy"),
        "Destination unreachable: Unknown code 6": (6, "route rejects it"),
    },
}
_ERRORS = {os.strerror(number): number for number in errno.errorcode}


class EchoKind(StrEnum):
    """Outcome of an echo. Stable names: they are in the JSON of `net status`."""

    SILENT = "silent"  # nothing came back in time
    REPLY = "reply"
    TIME_EXCEEDED = "time-exceeded"  # sent by a router where the TTL ended: it does forward
    UNREACHABLE = "unreachable"
    TOO_BIG = "too-big"  # don't-fragment was set; `mtu` is the size that would pass


@dataclass(frozen=True, slots=True)
class Echo:
    """Result of one echo. The zero value is silence.

    `sender` None: this machine itself, because it had no route or its neighbour discovery failed (after 3 s; ping with
    a raw socket is silent then).
    """

    kind: EchoKind = EchoKind.SILENT
    sender: Address | None = None
    seconds: float = 0.0  # round-trip time of a reply
    code: int = 0  # of UNREACHABLE, RFC 792 or RFC 4443; an errno where this machine itself refused
    mtu: int = 0  # of TOO_BIG, in bytes of the whole IP packet; 0 where the router did not say
    detail: str = ""  # UNREACHABLE in words


def echo(
    address: Address,
    *,
    interface: str,
    timeout: float,  # seconds
    ttl: int | None = None,
    size: int = 56,
    dont_fragment: bool = False,
) -> Echo:
    """Send one echo of `size` data bytes by `interface` (a name; "": by the routing table) and return the outcome.

    The IP packet is `size` + 28 bytes long (+ 48 with IPv6). Blocks for `timeout` seconds, or 5 more where ping hangs;
    safe in threads. Raises RelayError when ping is missing or unknown, NotPermitted when this user may not send
    ICMP, OSError(ENODEV) when the interface does not exist.
    """
    arguments = ["-n", "-c", "1", "-W", f"{timeout:g}", "-s", str(size)]
    arguments += ["-I", interface] if interface else []
    arguments += ["-M", "do"] if dont_fragment else []
    arguments += ["-t", str(ttl)] if ttl is not None else []
    return parse(system_commands.run("ping", *arguments, "--", str(address), timeout=timeout + _GRACE), address)


def parse(result: CommandResult, address: Address) -> Echo:
    """Interpret what ping printed. Raises as `echo` does."""
    reply = _REPLY.search(result.output)
    if result.status == 0 and reply is not None and _address(reply[1]) == address:
        return Echo(EchoKind.REPLY, address, float(reply[2]) / 1000)
    if "No such device" in result.complaint or "unknown iface" in result.complaint:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
    if "socket: " in result.complaint:  # "ping: socket: Operation not permitted"
        raise NotPermitted(
            "this user may not send ICMP", 'run it as root, or: sysctl -w net.ipv4.ping_group_range="0 2147483647"'
        )
    if found := _LOCALLY_TOO_BIG.search(result.complaint):
        return Echo(EchoKind.TOO_BIG, mtu=int(found[1]))
    if found := _LOCAL_ERROR.search(result.complaint):
        return _refused_here(found[1])
    if "Do you want to ping broadcast?" in result.complaint:  # what ping says for EACCES of connect(2)
        return _refused_here(os.strerror(errno.EACCES))
    if result.status == 1 and _STATISTICS.search(result.output):
        return _icmp_error(result.output, address.version)
    raise RelayError(f"the answer of ping is not known: {result.why}", "apt-get install iputils-ping")


def _icmp_error(output: str, version: int) -> Echo:
    """The ICMP error that ping printed; silence when it printed none."""
    found = _ICMP_ERROR.search(output)
    if found is None:
        return Echo()
    own = _OWN_ADDRESS.search(output)
    sender = None if own is not None and own[1] == found[1] else _address(found[1])
    if found[2] in _TIME_EXCEEDED:
        return Echo(EchoKind.TIME_EXCEEDED, sender)
    if too_big := _TOO_BIG.match(found[2]):
        return Echo(EchoKind.TOO_BIG, sender, mtu=int(too_big[1]))
    code, detail = _UNREACHABLE[version].get(found[2], (-1, found[2].lower()[:80]))
    return Echo(EchoKind.UNREACHABLE, sender, code=code, detail=detail)


def _refused_here(words: str) -> Echo:
    """The result of a ping that this machine's kernel refused to send; `words` is the text of strerror(3)."""
    number = _ERRORS.get(words, 0)
    detail = "a packet filter here forbids it" if number == errno.EPERM else words.lower()[:80]
    return Echo(EchoKind.UNREACHABLE, code=number, detail=detail)


def _address(text: str) -> Address | None:
    """An address that ping printed, without the scope of a link-local one; None for anything else."""
    try:
        return ip_address(text.partition("%")[0].rstrip(":"))
    except ValueError:
        return None

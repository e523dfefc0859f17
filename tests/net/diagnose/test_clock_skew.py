"""How far a gateway's clock is off, told by its own kernel, and by one that is wrong."""

import json
import sys
from collections.abc import Iterator

import pytest

from tests.net.conftest import Namespace

ASK = """
import json
from ipaddress import ip_address
from relay.net.diagnose import clock_skew
leg = clock_skew.look(ip_address("172.18.0.200"), "zt0")
print(json.dumps([leg.state, leg.what, leg.cure, dict(leg.figures)]))
"""
# answers ICMP timestamps (RFC 792) with a clock that is 90 s ahead; marked, so that nft lets them out
ELSEWHEN = """
import socket, struct, time
sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 7)
print("ready", flush=True)
while True:
    data, sender = sock.recvfrom(4096)
    data = data[20:]
    if data[0] != 13:
        continue
    now = int((time.time() + 90) * 1000) % 86_400_000
    body = bytes([14, 0, 0, 0]) + data[4:12] + struct.pack("!II", now, now)
    total = sum(struct.unpack(f"!{len(body) // 2}H", body))
    total = (total & 0xFFFF) + (total >> 16)
    total = ~(total + (total >> 16)) & 0xFFFF
    sock.sendto(body[:2] + total.to_bytes(2, "big") + body[4:], sender)
"""

pytestmark = pytest.mark.system


@pytest.fixture
def gateway(relay_host: Namespace) -> Iterator[Namespace]:
    """A gateway at the other end of the relay's zt0."""
    made = Namespace()
    try:
        relay_host.ip(f"link set far_zt0 netns {made.holder.pid}")
        made.ip("link set lo up", "link set far_zt0 up", "address add 172.18.0.200/24 dev far_zt0")
        yield made
    finally:
        made.close()


def look(host: Namespace) -> tuple[str, str, str, dict[str, float]]:
    """(state, what, cure, figures) of the leg."""
    state, what, cure, figures = json.loads(host.run(sys.executable, "-c", ASK))
    return state, what, cure, figures


def test_clocks_that_agree(relay_host: Namespace, gateway: Namespace) -> None:
    """The same kernel, so the same clock; whether NTP keeps it is this machine's own affair."""
    state, what, _, figures = look(relay_host)
    assert state in {"ok", "warning"}
    assert what.startswith("172.18.0.200 is 0.0")
    assert abs(figures["skew_seconds"]) < 0.1


def test_a_gateway_that_does_not_say_is_left_out(relay_host: Namespace, gateway: Namespace) -> None:
    """Many packet filters drop ICMP timestamps: that is no fault of the way."""
    gateway.run("nft", "add table ip t; add chain ip t i { type filter hook input priority 0; }; add rule ip t i drop")
    state, what, _, _ = look(relay_host)
    assert state in {"skipped", "warning"}
    assert "answers no ICMP timestamp" in what


def test_a_clock_that_is_wrong_is_warned_of(relay_host: Namespace, gateway: Namespace) -> None:
    """90 seconds ahead, with the cure."""
    gateway.run(
        "nft",
        "add table ip t; add chain ip t o { type filter hook output priority 0; }; "
        "add rule ip t o icmp type timestamp-reply meta mark != 7 drop",
    )
    with gateway.start(sys.executable, "-c", ELSEWHEN) as clock:
        assert clock.stdout is not None
        try:
            assert clock.stdout.readline() == "ready\n"
            state, what, cure, figures = look(relay_host)
        finally:
            clock.kill()
    assert (state, "timedatectl set-ntp true" in cure) == ("warning", True)
    assert "is 90.0" in what
    assert "ahead" in what
    assert figures["skew_seconds"] == pytest.approx(90, abs=0.2)

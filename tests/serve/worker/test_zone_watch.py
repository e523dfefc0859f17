"""A real relay whose zone breaks under it, in network namespaces: what is open is cut, what is new is refused, at once.

The relay and its gateway live in namespaces of their own; the relay's door is in the test's network, so clients need
not be moved. That nothing leaks meanwhile is counted in tests/lab.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from relay.serve.control_client import call
from tests.net.conftest import CHECKOUT, Namespace
from tests.relay_process import Relay, echo_server, relay, wait_for
from tests.serve import hostile
from tests.serve.hostile import Client, load_key

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("serve-zones")]

TARGET, SILENT, UNREACHABLE, GATEWAY = "192.168.1.201", "192.168.1.77", "192.168.1.78", "172.18.0.200"
POLICY = """\
zones:
  office: {networks: [192.168.1.0/24], interface: "zt*", gateway: 172.18.0.200}
  here: {networks: [127.0.0.0/8], interface: lo}
hosts:
  remote: {address: 192.168.1.201, zone: office}
rules:
  - {name: all, allow: [alice], to: [office, here], ports: ["1-65535"]}
"""
ECHO = """
import sys
sys.path.insert(0, sys.argv[2])  # nsenter --mount starts in /
from tests.relay_process import echo_server
with echo_server(sys.argv[1]) as port:
    print(port, flush=True)
    sys.stdin.read()
"""
ROUTE = f"route add 192.168.1.0/24 via {GATEWAY} dev zt0 metric 5000"
DOWN = "the network behind this relay is down"


class Gateway(Namespace):
    """The gateway and the hosts behind it: a namespace inside the relay's, so that a cable fits between them."""

    def __init__(self, relay_host: Namespace) -> None:
        self.holder = subprocess.Popen(
            [*relay_host._enter, "unshare", "--net", "sh", "-c", "echo ready; exec cat >/dev/null"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.holder.stdout is not None
        assert self.holder.stdout.readline() == "ready\n"
        self._enter = [
            word if word != str(relay_host.holder.pid) else str(self.holder.pid) for word in relay_host._enter
        ]


class Scene:
    """The relay's machine, its gateway with an echo server at 192.168.1.201, and the relay."""

    def __init__(self) -> None:
        self.host = Namespace()
        self.host.ip("link set lo up")
        self.host.link("eth0", "198.51.100.10/24")
        self.host.ip("route add default via 198.51.100.1")
        self.gateway = Gateway(self.host)
        self.gateway.ip("link set lo up", f"address add {TARGET}/32 dev lo")
        self.gateway.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        self.heal()
        self.gateway.ip(f"route add blackhole {SILENT}", f"route add unreachable {UNREACHABLE}")
        self._echo = subprocess.Popen(
            [*self.gateway._enter, sys.executable, "-c", ECHO, TARGET, str(CHECKOUT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._echo.stdout is not None
        self.port = int(self._echo.stdout.readline())
        self.relay: Relay
        self.worker: list[int] = []

    def batch(self, *lines: str) -> float:
        """Change the relay's network, in one process; when it was done (time.monotonic)."""
        subprocess.run(
            [*self.host._enter, "ip", "-batch", "-"], input="\n".join(lines) + "\n", text=True, check=True, timeout=10
        )
        return time.monotonic()

    def heal(self) -> None:
        """zt0 as it should be: made anew, with its address and the route."""
        for name in ("zt0", "zt1", "eth1"):
            subprocess.run([*self.host._enter, "ip", "link", "del", name], stderr=subprocess.DEVNULL, check=False)
        self.plug("link add", ROUTE)

    def plug(self, *more: str) -> float:
        """A cable named zt0 at both ends, with addresses; when it was done."""
        self.batch(
            f"link add zt0 type veth peer name zt0 netns {self.gateway.holder.pid}",
            "address add 172.18.0.10/24 dev zt0",
        )
        self.gateway.ip(f"address add {GATEWAY}/24 dev zt0", "link set zt0 up")
        return self.batch("link set zt0 up", *(line for line in more if line != "link add"))

    def close(self) -> None:
        """End everything that was started."""
        self._echo.communicate(timeout=10)
        self.gateway.close()
        self.host.close()

    def client(self) -> Client:
        """alice, logged in."""
        return Client(self.relay.port).login("alice", load_key(self.relay.key))

    def well(self, client: Client) -> None:
        """Wait until a new forward works again, without a restart."""
        wait_for(lambda: self.zone()["up"], "the zone does not come up")
        client.echo("remote", self.port)

    def zone(self, name: str = "office") -> dict[str, Any]:
        """What the status says about a zone."""
        zones = call(self.relay.site / "state", {"do": "status"})["zones"]
        return next((zone for zone in zones if zone["zone"] == name), {"up": None})

    def closed(self, before: int) -> dict[str, Any]:
        """The closing row that came after so many."""
        rows = wait_for(lambda: self.relay.rows("forward.closed")[before:], "no closing row")
        row: dict[str, Any] = rows[0]
        return row


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One relay for the file; `healed` gives each test a zone that is up."""
    made = Scene()
    settings = "workers: 1\nlimits: {dial_timeout: 2s}\n"
    try:
        with relay(tmp_path_factory.mktemp("zones"), POLICY, settings, made.host._enter) as made.relay:
            made.worker = made.relay.worker_pids()
            yield made
            assert made.relay.worker_pids() == made.worker, "the worker is not the same any more"
            assert "a bug of ours" not in made.relay.log(), made.relay.log()[-5000:]
    finally:
        made.close()


@pytest.fixture
def healed(scene: Scene) -> Iterator[Scene]:
    """The zone is up before the test, and again afterwards; no row of an earlier test is still on its way."""
    wait_for(lambda: scene.zone()["up"], "the zone does not come up")
    rows = scene.relay.rows
    wait_for(lambda: len(rows("forward.opened")) == len(rows("forward.closed")), "a forward has no closing row")
    yield scene
    scene.heal()
    wait_for(lambda: scene.zone()["up"], "the zone does not come up")


BROKEN = {
    "interface-missing": ["link del zt0"],
    "interface-down": ["link set zt0 down"],
    "route-missing": ["route del 192.168.1.0/24"],
    "other-gateway": ["route replace 192.168.1.0/24 via 172.18.0.66 dev zt0 metric 5000"],
    "interface-ambiguous": ["link add zt1 type veth peer name far_zt1"],
}


@pytest.mark.parametrize("obstacle", BROKEN)
def test_a_broken_zone_ends_open_forwards_and_refuses_new_ones(healed: Scene, obstacle: str) -> None:
    """Open forwards end within a second, new ones are refused within 50 ms, both with the obstacle on record."""
    one = healed.relay
    with healed.client() as client, echo_server() as elsewhere:
        for _ in range(3):
            client.open("remote", healed.port)
        before, downs = len(one.rows("forward.closed")), len(one.rows("zone.down"))
        broken = healed.batch(*BROKEN[obstacle])
        for _ in range(3):
            client.expect(hostile.CLOSE)
        assert time.monotonic() - broken < 1
        wait_for(lambda: len(one.rows("forward.closed")) == before + 3, "not each forward has its closing row")
        for row in one.rows("forward.closed")[before:]:
            assert (row["reason"], row["obstacle"], row["zone"]) == ("overlay-down", obstacle, "office")
            assert row["detail"]
        took = []
        for _ in range(9):
            began = time.monotonic()
            code, text = client.refused("remote", healed.port)
            took.append(time.monotonic() - began)
            assert code == hostile.CONNECT_FAILED
            assert DOWN in text
        assert statistics.median(took) < 0.05
        assert healed.closed(before + 3)["obstacle"] == obstacle
        row = wait_for(lambda: one.rows("zone.down")[downs:], "zone.down is not on record")[0]
        assert (row["zone"], row["reason"]) == ("office", obstacle)
        zone = healed.zone()
        assert (zone["up"], zone["reason"]) == (False, obstacle)
        assert elsewhere
        ups = len(one.rows("zone.up"))
        healed.heal()
        healed.well(client)
        row = wait_for(lambda: one.rows("zone.up")[ups:], "zone.up is not on record")[0]
        assert row["zone"] == "office"
        assert row["duration"] > 0
        assert len(one.rows("zone.down")) == downs + 1, "a change is one row"


def test_a_target_address_that_becomes_the_relays_own_ends_its_forwards(healed: Scene) -> None:
    """The zone is up, but packets to that target would stay on this machine."""
    with healed.client() as client:
        client.open("remote", healed.port)
        before = len(healed.relay.rows("forward.closed"))
        healed.batch(f"address add {TARGET}/32 dev zt0")
        client.expect(hostile.CLOSE)
        row = healed.closed(before)
        assert (row["reason"], row["obstacle"]) == ("overlay-down", "not-unicast")
        assert healed.zone()["up"]


def test_a_recreated_interface_ends_the_forwards_of_the_old_one(healed: Scene) -> None:
    """After a quick restart of the overlay the zone is up, but sockets of the old interface would hang for ever."""
    with healed.client() as client:
        client.open("remote", healed.port)
        before = len(healed.relay.rows("forward.closed"))
        healed.heal()
        done = time.monotonic()
        client.expect(hostile.CLOSE)
        assert time.monotonic() - done < 1
        row = healed.closed(before)
        assert row["reason"] == "overlay-down"
        assert row["obstacle"] in ("interface-remade", "interface-missing", "interface-down", "route-missing")
        healed.well(client)


def test_a_removed_source_address_ends_its_forwards(healed: Scene) -> None:
    """The route is still usable for other forwards, but no answer can reach this socket."""
    with healed.client() as client:
        healed.batch("address add 172.18.7.7/24 dev zt0")
        client.open("remote", healed.port)
        before = len(healed.relay.rows("forward.closed"))
        gone = healed.batch(
            "address del 172.18.0.10/24 dev zt0",
            f"route replace {GATEWAY} dev zt0",
            f"route replace 192.168.1.0/24 via {GATEWAY} dev zt0 metric 5000",
        )
        client.expect(hostile.CLOSE)
        assert time.monotonic() - gone < 1
        row = healed.closed(before)
        assert (row["reason"], row["obstacle"]) == ("overlay-down", "source-address")
        assert "172.18.0.10" in row["detail"]


def test_a_source_address_of_another_interface_is_refused(healed: Scene) -> None:
    """A route whose preferred source belongs to another interface is not accepted for the zone."""
    with healed.client() as client:
        healed.batch(f"route replace 192.168.1.0/24 via {GATEWAY} dev zt0 src 198.51.100.10 metric 5000")
        healed.gateway.ip("route add 198.51.100.10 via 172.18.0.10")
        healed.gateway.run("sh", "-c", "echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter")
        before = len(healed.relay.rows("forward.closed"))
        assert DOWN in client.refused("remote", healed.port)[1]
        row = healed.closed(before)
        assert (row["reason"], row["obstacle"]) == ("overlay-down", "source-address")
        healed.gateway.ip("route del 198.51.100.10")


def test_a_dial_in_progress_ends_when_its_zone_breaks(healed: Scene) -> None:
    """It does not wait for its timeout, and the client learns that the network is down."""
    with healed.client() as client:
        number, packet = client.ask(SILENT, 22)
        client.send(packet)
        before = len(healed.relay.rows("forward.closed"))
        healed.relay.wait_row("forward.opened", address=SILENT)
        broken = healed.batch("link set zt0 down")
        answer = client.answer(number)
        assert time.monotonic() - broken < 1
        assert answer[0] == hostile.OPEN_FAILURE
        assert DOWN in hostile.strings(answer[9:])[0].decode()
        row = healed.closed(before)
        assert (row["reason"], row["obstacle"], row["address"]) == ("overlay-down", "interface-down", SILENT)


def test_other_zones_are_not_affected(healed: Scene) -> None:
    """A forward into one zone continues when another zone breaks."""
    echo = subprocess.Popen(
        [*healed.host._enter, sys.executable, "-c", ECHO, "127.0.0.2", str(CHECKOUT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert echo.stdout is not None
        port = int(echo.stdout.readline())
        with healed.client() as client:
            number, channel = client.open("127.0.0.2", port)
            client.open("remote", healed.port)
            healed.batch("link del zt0")
            assert int.from_bytes(client.expect(hostile.CLOSE)[1:5], "big") == number + 1
            client.write(channel, b"still here")
            assert client.read(number, 10) == b"still here"
            assert healed.zone("here")["up"]
    finally:
        echo.communicate(timeout=10)


@pytest.mark.parametrize(
    ("address", "port", "reason", "words"),
    [
        (TARGET, 9, "target-refused", "nothing listens"),
        (SILENT, 22, "target-silent", "the host does not answer"),
        (UNREACHABLE, 22, "target-unreachable", "the host does not answer"),
    ],
)
def test_a_silent_target_is_distinguished_from_a_broken_zone(
    healed: Scene, address: str, port: int, reason: str, words: str
) -> None:
    """The gateway answers, so no obstacle is recorded, and the reason is the target's."""
    with healed.client() as client:
        before = len(healed.relay.rows("forward.closed"))
        assert words in client.refused(address, port)[1]
        row = healed.closed(before)
        assert (row["reason"], row.get("obstacle")) == (reason, None)


def test_a_silent_gateway_is_distinguished_from_its_hosts(healed: Scene) -> None:
    """The gateway's address has no neighbour entry: the reason is the gateway, not the target."""
    with healed.client() as client:
        healed.gateway.ip(f"address del {GATEWAY}/24 dev zt0")
        healed.batch("neigh flush dev zt0")
        before = len(healed.relay.rows("forward.closed"))
        assert (
            "the gateway of the network behind this relay does not answer" in client.refused("remote", healed.port)[1]
        )
        row = healed.closed(before)
        assert row["reason"] == "gateway-silent"
        assert GATEWAY in row["detail"]
        healed.gateway.ip(f"address add {GATEWAY}/24 dev zt0")
        healed.batch("neigh flush dev zt0")
        client.echo("remote", healed.port)


@pytest.mark.parametrize("rp_filter", [0, 1, 2])
def test_an_own_interface_in_the_zones_prefix_is_named_if_answers_are_dropped(healed: Scene, rp_filter: int) -> None:
    """The bound socket still reaches the right host, unless rp_filter=1 drops the answers."""
    for name in ("all", "zt0"):
        healed.host.run("sh", "-c", f"echo {rp_filter} > /proc/sys/net/ipv4/conf/{name}/rp_filter")
    try:
        with healed.client() as client:
            healed.batch(
                "link add eth1 type veth peer name far_eth1",
                "address add 192.168.1.33/24 dev eth1",
                "link set far_eth1 up",
                "link set eth1 up",
            )
            before = len(healed.relay.rows("forward.closed"))
            if rp_filter != 1:
                client.echo("remote", healed.port)
                assert healed.zone()["detail"] == ""
                return
            assert "the host does not answer" in client.refused("remote", healed.port)[1]
            row = healed.closed(before)
            assert (row["reason"], row["obstacle"]) == ("target-silent", "shadowed")
            assert "on-link by eth1" in row["detail"]
            zone = healed.zone()
            assert zone["up"]
            assert "rp_filter=1" in zone["detail"]
    finally:
        for name in ("all", "zt0"):
            healed.host.run("sh", "-c", f"echo 0 > /proc/sys/net/ipv4/conf/{name}/rp_filter")


def test_an_own_interface_in_the_zones_prefix_ends_no_forward(healed: Scene) -> None:
    """An open forward continues by its zone's interface while another interface has the same prefix."""
    for name in ("all", "zt0"):
        healed.host.run("sh", "-c", f"echo 0 > /proc/sys/net/ipv4/conf/{name}/rp_filter")
    with healed.client() as client:
        number, channel = client.open("remote", healed.port)
        healed.batch(
            "link add eth1 type veth peer name far_eth1", "address add 192.168.1.33/24 dev eth1", "link set eth1 up"
        )
        healed.batch("link set far_eth1 up")
        client.echo("remote", healed.port)  # the worker has looked at least once by now: its refusals come first
        client.write(channel, b"right host")
        assert client.read(number, 10) == b"right host"


def test_a_flapping_zone_cannot_fill_the_log(healed: Scene) -> None:
    """At most one row a second is written about a zone, and the last one has its final state."""
    one = healed.relay
    before = len(one.rows("zone.down")) + len(one.rows("zone.up"))
    began = time.monotonic()
    for _ in range(60):
        healed.batch("route del 192.168.1.0/24")
        healed.batch(ROUTE)
    healed.batch("route del 192.168.1.0/24")
    wait_for(lambda: len(one.rows("zone.down")) > len(one.rows("zone.up")), "the last row is not zone.down")
    seconds = time.monotonic() - began
    assert len(one.rows("zone.down")) + len(one.rows("zone.up")) - before <= seconds + 2


def test_exhausted_local_ports_are_no_broken_zone(healed: Scene) -> None:
    """The kernel reports both with the same error; the reason is busy, not a missing address."""
    ports = "/proc/sys/net/ipv4/ip_local_port_range"
    usual = healed.host.run("cat", ports)
    healed.host.run("sh", "-c", f"echo 40000 40001 > {ports}")
    try:
        with healed.client() as client:
            for _ in range(2):
                client.open("remote", healed.port)
            before = len(healed.relay.rows("forward.closed"))
            assert "try again" in client.refused("remote", healed.port)[1]
            row = healed.closed(before)
            assert (row["reason"], row.get("obstacle")) == ("busy", None)
            assert "no port of ours" in row["detail"]
    finally:
        healed.host.run("sh", "-c", f"echo {usual} > {ports}")


def test_a_zone_that_is_down_at_the_start_is_recorded(healed: Scene) -> None:
    """The relay serves nevertheless; one row has the reason."""
    one = healed.relay
    healed.batch("link del zt0")
    wait_for(lambda: not healed.zone()["up"], "the zone does not go down")
    one.stop()
    before = len(one.rows("zone.down"))
    one.start()
    healed.worker = one.worker_pids()
    row = wait_for(lambda: one.rows("zone.down")[before:], "zone.down is not on record")[0]
    assert (row["zone"], row["reason"]) == ("office", "interface-missing")
    since = healed.zone()["since"]
    healed.batch("link set eth0 mtu 1400")  # a change that concerns no zone
    assert healed.zone()["since"] == since
    assert len(one.rows("zone.down")) == before + 1
    assert "zone down: office reason interface-missing id " in one.log()
    ups = len(one.rows("zone.up"))
    healed.heal()
    wait_for(lambda: one.rows("zone.up")[ups:], "zone.up is not on record")
    wait_for(lambda: "zone up: office after " in one.log(), "no line says so")

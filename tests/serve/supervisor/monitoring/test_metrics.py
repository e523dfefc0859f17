"""The relay seen from outside: what real processes show at /metrics, /healthz and /readyz, and the alerts on it."""

import os
import re
import resource
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from relay.serve.control_client import call
from tests.prometheus import Metric, parse, selectors
from tests.relay_process import Relay, echo_server, relay, wait_for
from tests.serve import hostile
from tests.serve.hostile import Client, load_key

CHECKOUT = Path(__file__).parents[4]
RULES = CHECKOUT / "packaging" / "prometheus" / "relay.rules.yaml"
PAGE = (CHECKOUT / "docs" / "reference" / "metrics.md").read_text()
POLICY = """\
zones:
  here: {networks: [127.0.0.0/8], interface: lo}
  office: {networks: [192.168.1.0/24], interface: "nosuch*"}
hosts:
  remote: {address: 127.0.0.2, zone: here}
rules:
  - {name: alice reaches remote, allow: [alice], to: [remote], ports: ["1024-65535"]}
"""
PORT_LINE = "metrics: 127.0.0.1:0\n"


def fetch(one: Relay, path: str) -> tuple[int, str]:
    """The status and text of a page, at the port or socket that the relay says."""
    where = wait_for(lambda: call(one.state, {"do": "status"})["metrics"], "it shows nothing anywhere")
    if where.startswith("/"):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(where)
    else:
        sock = socket.create_connection(("127.0.0.1", int(where.rpartition(":")[2])))
    with sock:
        sock.settimeout(10)
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: relay\r\n\r\n".encode())
        data = b""
        while piece := sock.recv(1 << 16):
            data += piece
    head, _, body = data.decode().partition("\r\n\r\n")
    return int(head.split(" ")[1]), body


class Numbers:
    """One look at /metrics."""

    def __init__(self, one: Relay) -> None:
        status, text = fetch(one, "/metrics")
        assert status == 200
        self.text = text
        self.families: dict[str, Metric] = parse(text)

    def __call__(self, name: str, **labels: str) -> float:
        """The value of a sample."""
        family = self.families.get(name) or self.families[re.sub("_(bucket|sum|count)$", "", name)]
        return family.samples[name, tuple(sorted(labels.items()))]


def until(one: Relay, name: str, value: float, **labels: str) -> Numbers:
    """Look until a sample has that value; workers tell what they count once a second."""

    def look() -> Numbers | None:
        numbers = Numbers(one)
        return numbers if numbers(name, **labels) == value else None

    found: Numbers = wait_for(look, f"{name} {labels} does not become {value}:\n{Numbers(one).text}")
    return found


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """A relay with two zones, of which one is down."""
    with relay(tmp_path_factory.mktemp("metrics"), POLICY, f"workers: 1\n{PORT_LINE}") as made:
        yield made
        assert "a bug of ours" not in made.log(), made.log()[-5000:]


@pytest.fixture
def client(one: Relay) -> Iterator[Client]:
    """alice, logged in."""
    with Client(one.port).login("alice", load_key(one.key)) as client:
        yield client


def test_a_forward_is_seen(one: Relay, client: Client) -> None:
    """Log-in, forward, bytes in both directions, dial and end: each is counted once, live."""
    before = Numbers(one)
    with echo_server() as port:
        number, channel = client.open("remote", port)
        numbers = until(one, "relay_forwards", 1)
        assert numbers("relay_connections") == 1
        assert numbers("relay_connections_before_login", place="inside") == 0
        client.write(channel, b"x" * 5000)
        assert client.read(number, 5000) == b"x" * 5000
        sent = before("relay_bytes_total", direction="sent") + 5000
        numbers = until(one, "relay_bytes_total", sent, direction="sent")  # while it is open
        assert (
            numbers("relay_bytes_total", direction="received")
            == before("relay_bytes_total", direction="received") + 5000
        )
        client.send(bytes([hostile.CLOSE]) + hostile.uint32(channel))
    numbers = until(one, "relay_forwards", 0)
    assert numbers("relay_logins_total", result="succeeded") >= 1
    allowed = before("relay_forwards_allowed_total")
    assert numbers("relay_forwards_allowed_total") == allowed + 1
    closed = before("relay_audit_rows_total", event="forward.closed")
    numbers = until(one, "relay_audit_rows_total", closed + 1, event="forward.closed")
    dialled = {"zone": "here", "result": "connected"}
    assert numbers("relay_dial_seconds_count", **dialled) >= 1
    assert 0 < numbers("relay_dial_seconds_sum", **dialled) < 5
    until(one, "relay_bytes_total", sent, direction="sent")  # the end of a forward counts nothing twice


def test_what_is_refused_is_seen(one: Relay, client: Client) -> None:
    """Denied and failed forwards by reason, each time, at once and not when the connection ends; other channels too."""
    before = Numbers(one)
    for _ in range(3):
        client.refused("remote", 22)
    client.refused("nobody", 22)
    with socket.socket() as free:
        free.bind(("127.0.0.2", 0))  # nobody listens there
        client.refused("remote", free.getsockname()[1])
    until(
        one,
        "relay_forwards_denied_total",
        before("relay_forwards_denied_total", reason="no-rule") + 3,
        reason="no-rule",
    )
    numbers = until(
        one,
        "relay_forwards_closed_total",
        before("relay_forwards_closed_total", reason="target-refused") + 1,
        reason="target-refused",
    )
    assert numbers("relay_forwards_denied_total", reason="unknown-target") == 1
    assert numbers("relay_dial_seconds_count", zone="here", result="failed") >= 1


def test_strangers_are_seen_by_what_they_did(one: Relay) -> None:
    """Who only looks is counted as such, without anything that says who it was."""
    before = Numbers(one)("relay_logins_total", result="no-key")
    with socket.create_connection(("127.0.0.1", one.port)) as sock:
        sock.recv(100)
    numbers = until(one, "relay_logins_total", before + 1, result="no-key")
    assert numbers("relay_connections_accepted_total") >= 1


def test_health_and_readiness(one: Relay) -> None:
    """A zone that is down makes it not ready, in so many words; it is alive all the same."""
    assert fetch(one, "/healthz") == (200, "ok\n")
    wait_for(lambda: fetch(one, "/readyz")[0] == 503, "it is ready without its zone")
    assert fetch(one, "/readyz") == (503, "zone office: interface-missing\n")
    numbers = Numbers(one)
    assert (numbers("relay_zone_up", zone="office"), numbers("relay_zone_up", zone="here")) == (0, 1)
    assert numbers("relay_ready") == 0
    assert numbers("relay_workers", state="serving") == 1


@pytest.mark.slow
def test_a_worker_that_hangs_is_no_health(one: Relay) -> None:
    """After ten silent seconds it is said, and when it answers again it is well."""
    (pid,) = one.worker_pids()
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_for(lambda: fetch(one, "/healthz")[0] == 503, "a stopped worker is healthy", 20)
        assert "worker" in fetch(one, "/readyz")[1]
        assert Numbers(one)("relay_workers", state="silent") == 1
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_for(lambda: fetch(one, "/healthz")[0] == 200, "it does not become healthy again")


def test_nobody_is_named(one: Relay, client: Client) -> None:
    """No person, key, host or address is on the pages, whoever is there and whatever was tried."""
    client.refused("192.168.1.50", 22)
    with echo_server() as port:
        client.open("remote", port)
        until(one, "relay_forwards", 1)
        pages = "".join(fetch(one, path)[1] for path in ("/metrics", "/readyz", "/healthz"))
    for word in ("alice", "SHA256", "remote", "192.168", "127.0", "nobody", str(one.directory)):
        assert word not in pages, word


def test_the_page_has_each_metric(one: Relay) -> None:
    """docs/reference/metrics.md lists what there is, with type, labels and meaning."""
    table = {}
    for name, kind, labels, meaning in re.findall(r"^\| `(\w+)` \| (\w+) \| (.*) \| (.*) \|$", PAGE, re.M):
        table[name] = kind, set(re.findall(r"`(\w+)`", labels)), meaning
    with echo_server() as port, Client(one.port).login("alice", load_key(one.key)) as client:
        client.open("remote", port)
        wait_for(lambda: Numbers(one).families["relay_dial_seconds"].samples, "no dial is counted")
    families = Numbers(one).families
    assert table == {
        name: (family.kind, set(family.labels()) - {"le"}, family.meaning) for name, family in families.items()
    }
    for name, family in families.items():
        assert name.endswith("_total") == (family.kind == "counter"), name


def test_labels_are_bounded(one: Relay) -> None:
    """The page has some hundreds of samples, in kilobytes, and no label with more values than words of ours."""
    numbers = Numbers(one)
    assert len(numbers.text) < 64_000
    assert all(len(values) <= 50 for one in numbers.families.values() for values in one.labels().values())


@pytest.mark.slow
def test_a_broken_site_and_a_changed_place(tmp_path: Path) -> None:
    """Faults in the files are reported while the old configuration is in force; a reload moves the pages."""
    with relay(tmp_path, settings=f"workers: 1\n{PORT_LINE}") as one:
        wait_for(lambda: fetch(one, "/readyz") == (200, "ok\n"), "it is not ready")
        one.policy("rules: [nonsense]")
        one.ctl("reload", status=1)
        assert fetch(one, "/readyz") == (503, "policy: the site's files have faults; what was applied last goes on\n")
        assert Numbers(one)("relay_site_faults") >= 1
        one.policy(POLICY)
        place = tmp_path / "m.sock"
        one.settings(f"workers: 1\nmetrics: {place}\n")
        one.ctl("reload")
        wait_for(place.exists, "it does not move")
        assert fetch(one, "/healthz") == (200, "ok\n")
        one.settings("workers: 1\n")
        one.ctl("reload")
        wait_for(lambda: not place.exists(), "the socket stays")
        assert call(one.state, {"do": "status"})["metrics"] == ""


@pytest.mark.slow
def test_a_disk_that_takes_nothing_is_seen_before_anybody_comes(one: Relay) -> None:
    """Nobody writes a row, and it is known all the same that none could be written; then that it could be again."""
    unlimited = resource.prlimit(one.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(one.pid, resource.RLIMIT_FSIZE, (1, unlimited[1]))
    try:
        wait_for(lambda: "audit: " in fetch(one, "/readyz")[1], "a full disk is not seen", 30)
        assert Numbers(one)("relay_audit_failing") == 1
        assert fetch(one, "/healthz")[0] == 200
    finally:
        resource.prlimit(one.pid, resource.RLIMIT_FSIZE, unlimited)
    wait_for(lambda: "audit: " not in fetch(one, "/readyz")[1], "it does not recover", 30)


@pytest.mark.slow
def test_a_metrics_port_in_use_is_reported_and_costs_no_forward(tmp_path: Path) -> None:
    """The relay serves clients without its pages, log and doctor name the port, and the pages come when it is free."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        with relay(tmp_path, settings=f"workers: 1\nmetrics: {where}\n") as one, echo_server() as port:
            with Client(one.port).login("alice", load_key(one.key)) as client:
                client.echo("remote", port)
            wait_for(lambda: f"metrics cannot be shown at {where}" in one.log(), "nothing is said")
            assert f"relay.yaml puts metrics at {where}, but they are at" in one.ctl("doctor", status=None)
            taken.close()
            assert fetch(one, "/healthz") == (200, "ok\n")


@pytest.mark.slow
@pytest.mark.parametrize("place", ["port", "socket"])
def test_a_restart_shows_the_same_pages(tmp_path: Path, place: str) -> None:
    """After a restart the pages are where they were; what flows in a worker of before is counted on from there."""
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{free.getsockname()[1]}" if place == "port" else str(tmp_path / "m.sock")
    with relay(tmp_path, settings=f"workers: 1\nmetrics: {where}\n", by_systemd=True) as one, echo_server() as port:
        with Client(one.port).login("alice", load_key(one.key)) as client:
            number, channel = client.open("remote", port)
            client.write(channel, b"x" * 3000)
            assert client.read(number, 3000) == b"x" * 3000
            until(one, "relay_bytes_total", 3000, direction="sent")
            one.restart()
            numbers = until(one, "relay_forwards", 1)
            assert call(one.state, {"do": "status"})["metrics"] == where
            assert numbers("relay_workers", state="draining") == 1
            client.write(channel, b"x" * 200)
            assert client.read(number, 200) == b"x" * 200
            numbers = until(one, "relay_bytes_total", 200, direction="sent")
            assert numbers("relay_connections") == 1
        assert one.stop(signal.SIGINT) == 0
        assert not (tmp_path / "m.sock").exists()
        assert "metrics cannot be shown" not in one.log()


# ---- alerts


def rules() -> list[dict[str, object]]:
    """All alerts of the file."""
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    return list(group["rules"])


def test_each_alert_says_what_and_what_to_do() -> None:
    """A name of its own, a severity, words, and a command of ours that exists."""
    from relay.cli import COMMANDS

    names = [str(rule["alert"]) for rule in rules()]
    assert len(set(names)) == len(names)
    for rule in rules():
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert re.fullmatch(r"Relay[A-Z][A-Za-z]+", str(rule["alert"]))
        assert re.fullmatch(r"[0-9]+[smh]", str(rule.get("for", "0s")))
        labels, annotations = rule["labels"], rule["annotations"]
        assert isinstance(labels, dict)
        assert isinstance(annotations, dict)
        assert labels["severity"] in ("critical", "warning")
        assert set(annotations) == {"summary", "description"}
        for text in annotations.values():
            assert str(text).count("{{") == str(text).count("}}")
            for command in re.findall(r"relayctl ([a-z-]+)", str(text)):
                assert command in COMMANDS, command


@pytest.fixture(scope="module")
def families(one: Relay) -> dict[str, Metric]:
    """What is on the page of a relay that has dialled; before, there is no result of a dial."""
    with Client(one.port).login("alice", load_key(one.key)) as client, socket.socket() as free:
        free.bind(("127.0.0.2", 0))  # nobody listens there
        client.refused("remote", free.getsockname()[1])

    def look() -> dict[str, Metric] | None:
        found = Numbers(one).families
        return found if "failed" in found["relay_dial_seconds"].labels().get("result", ()) else None

    found: dict[str, Metric] = wait_for(look, "no dial that failed is counted")
    return found


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
def test_alerts_read_metrics_that_there_are(families: dict[str, Metric], rule: dict[str, object]) -> None:
    """Each name, label and value of an expression is on the page of a real relay; what the words use as well."""
    known = {"instance", "job"}
    for name, labels in selectors(str(rule["expr"])):
        if name == "up":  # Prometheus' own
            continue
        if not name:
            assert set(labels) <= known, "it groups by what is not there"
            continue
        family = families.get(name) or families[re.sub("_(bucket|sum|count)$", "", name)]
        assert (family.kind == "histogram") == (name not in families), name
        for label, value in labels.items():
            assert value in family.labels()[label], f"{name} has no {label}={value}"
        known |= set(family.labels())
    used = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
    assert used <= known

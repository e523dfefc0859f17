"""relayctl doctor against a real relay."""

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.relay_process import POLICY, Relay, relay


@contextmanager
def greeter() -> Iterator[int]:
    """An SSH server as far as its greeting, at the address of `remote`; its port."""
    with socket.create_server(("127.0.0.2", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.sendall(b"SSH-2.0-greeter\r\n")
                        while connection.recv(65536):
                            pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_the_doctor_finds_a_healthy_relay_healthy(tmp_path: Path) -> None:
    """Every check is ok on a relay that serves, and the exit status says so; one file changed is a warning."""
    with greeter() as port, relay(tmp_path, POLICY, "public: relay.example.com:22\n") as one:
        one.policy(POLICY.replace("user: tester", f"user: tester, port: {port}"))
        one.ctl("reload")
        findings = json.loads(one.ctl("doctor", "--json"))
        assert {finding["state"] for finding in findings} == {"ok"}, findings
        names = {finding["name"] for finding in findings}
        assert names >= {
            "modes",
            "site",
            "host keys",
            "clock",
            "database",
            "audit key",
            "relay",
            "sockets",
            "zone here",
            "algorithms",
        }
        (zone,) = [finding["what"] for finding in findings if finding["name"] == "zone here"]
        assert zone.startswith(f"127.0.0.2:{port} greets with SSH-2.0-greeter after ")
        one.policy("hosts: {other: {address: 127.0.0.3, zone: here}}\n", "more")
        assert "relayctl reload" in one.ctl("doctor")


def test_the_doctor_names_the_first_cure(tmp_path: Path) -> None:
    """A stopped relay, a broken policy and a zone without its interface are faults, each with its cure."""
    one = Relay(tmp_path, policy="zones:\n  office: {networks: [192.168.1.0/24], interface: nothere0}\n")
    try:
        said = one.ctl("doctor", status=1)
        assert "interface: interface-missing: there is no interface 'nothere0'" in said
        assert "relayctl serve" in said
        one.policy("zones: [\n", "broken")
        assert "broken.yaml" in one.ctl("doctor", status=1)
        assert "broken.yaml" in one.ctl("doctor", status=1).splitlines()[-1] or "first:" in one.ctl("doctor", status=1)
    finally:
        one.end()


def test_the_doctor_sees_a_file_that_others_can_write(tmp_path: Path) -> None:
    """A world-writable policy is a fault with the chmod as remedy."""
    one = Relay(tmp_path)
    try:
        (one.site / "policies" / "main.yaml").chmod(0o666)
        assert f"chmod go-w {one.site / 'policies' / 'main.yaml'}" in one.ctl("doctor", status=1)
    finally:
        one.end()

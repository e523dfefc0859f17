"""relayctl as a program, for tests of the commands about keys."""

import subprocess
import sys
from pathlib import Path

from relay.store.reader import AuditReader
from relay.store.writer import FILE

FIXTURES = Path(__file__).parents[2] / "fixtures" / "keys"
ED25519 = (FIXTURES / "ed25519.pub").read_text()
PRINT = "SHA256:vEcMzYgo8WhTjTZok9jEg0pRWbxfGGdI9pCSV0cQ5Go"
POLICY = """\
zones: {office: {networks: [192.168.1.0/24], interface: "zt*"}}
hosts: {remote: {address: 192.168.1.201, zone: office}}
groups: {ops: [alice]}
rules:
  - {name: ops, allow: [ops], to: [remote], ports: [22]}
"""


def ctl(site: Path, *arguments: object, status: int = 0, stdin: str = "") -> tuple[str, str]:
    """Run relayctl; what it printed on stdout and stderr."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "relay", "--site", site, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


def rows(site: Path) -> list[dict[str, object]]:
    found = AuditReader(site / "state" / FILE).after(0, 100)
    return [{**row.event.fields, "name": row.event.name} for row in found]

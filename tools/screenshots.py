"""The screenshots of the README: `audit tail` as SVG and the report as PNG, from the audit log of an invented team.

    python tools/screenshots.py          # writes docs/img/audit-tail.svg, report.png and report.zh-CN.png

The team is that of tests/audit_team.py. The report needs the extra `report` and Debian's chromium.
"""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
import time
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT))

from relay.store.writer import FILE, AuditWriter  # noqa: E402 - the checkout comes into the path first
from tests.audit_team import Team, site  # noqa: E402
from tests.chromium import Browser  # noqa: E402

DIRECTORY = CHECKOUT / "docs" / "img"
COLUMNS, LINES = 126, 14
REPORT_WIDTH, REPORT_HEIGHT = 1060, 1340
# Left out, so that cards, news, a chart and the matrix fit one picture: most of the list, the second chart
ABRIDGE = """document.querySelectorAll(
  "nav, #news .news > li:nth-child(n+4), #news details, #flow figure:nth-of-type(n+2), #flow details"
).forEach(element => element.remove())"""
MOST_BYTES = 200_000  # the README loads them on every visit


def invented_log(path: Path) -> None:
    """Write a site at `path` with sixty days of a team's work, up to now."""
    path.mkdir(mode=0o750)
    now = time.time_ns() // 1000
    site(path, now)
    (path / "relay.yaml").write_text("timezone: Asia/Shanghai\n")
    writer = AuditWriter(path / "state" / FILE, "relay")
    team = Team(now, days=60, forwards=4000)
    for minutes, person, target in ((52, "carol", "192.168.1.50:554"), (9, "mallory", "db-01:3306")):
        time_denied = now - minutes * 60_000_000
        denied = {"asked": target, "reason": "no-rule", "detail": "no rule allows it", "policy": "3f2a9c01b7de"}
        team.add(time_denied, "forward.denied", **team.connection(person, time_denied), **denied)
    writer.append(list(team.events()))
    writer.close()


def terminal_output(path: Path, *arguments: str) -> str:
    """What `relayctl` writes to a terminal of `COLUMNS` columns, with its colours."""
    terminal, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", LINES + 4, COLUMNS, 0, 0))
    environ = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "COLORTERM": "truecolor"}
    environ.pop("NO_COLOR", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "relay", "--site", str(path), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=inside,
        stderr=inside,
        cwd=CHECKOUT,
        env=environ,
    )
    os.close(inside)
    chunks = []
    while True:
        try:
            chunk = os.read(terminal, 65536)
        except OSError:  # the last process has closed its end
            break
        if not chunk:
            break
        chunks.append(chunk)
    os.close(terminal)
    if process.wait() != 0:
        raise SystemExit(b"".join(chunks).decode())
    return b"".join(chunks).decode().replace("\r\n", "\n")


def terminal_svg(output: str, title: str) -> str:
    """The output as a picture of a terminal, without fonts from the network."""
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text.from_ansi(output.rstrip()), no_wrap=True, overflow="crop")
    svg = console.export_svg(title=title, theme=MONOKAI, unique_id="audit-tail")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    return svg.replace("Fira Code", "DejaVu Sans Mono")


def report_png(path: Path, language: str, picture: Path) -> None:
    """The top of the report's page, abridged."""
    page = path.parent / f"report.{language}.html"
    command = ("audit", "report", "--since", "30d", "--out", str(page), "--lang", language)
    subprocess.run([sys.executable, "-m", "relay", "--site", str(path), *command], cwd=CHECKOUT, check=True)
    page.write_text(page.read_text().replace(f"--site {path} ", "").replace(str(path), "/etc/relay"))
    with Browser() as browser:
        browser.look(width=REPORT_WIDTH)
        browser.open(page)
        browser.run(ABRIDGE)
        browser.picture(picture, {"x": 0, "y": 0, "width": REPORT_WIDTH, "height": REPORT_HEIGHT})


def main() -> None:
    """Write all pictures; a picture that is too large for the README is an error."""
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "site"
        invented_log(path)
        svg = terminal_svg(terminal_output(path, "audit", "tail", "-n", str(LINES)), "relayctl audit tail -f")
        (DIRECTORY / "audit-tail.svg").write_text(svg)
        report_png(path, "en", DIRECTORY / "report.png")
        report_png(path, "zh", DIRECTORY / "report.zh-CN.png")
    for name in ("audit-tail.svg", "report.png", "report.zh-CN.png"):
        size = (DIRECTORY / name).stat().st_size
        sys.stdout.write(f"docs/img/{name}: {size // 1000} kB\n")
        if size > MOST_BYTES:
            raise SystemExit(f"docs/img/{name} is larger than {MOST_BYTES // 1000} kB")


if __name__ == "__main__":
    main()

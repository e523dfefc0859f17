"""A real browser for the tests of pages: Debian's Chromium without a window, driven over a pair of pipes.

Its own protocol (DevTools, `--remote-debugging-pipe`: JSON messages with a NUL behind each), so nothing else is needed.
"""

import base64
import contextlib
import fcntl
import itertools
import json
import os
import select
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"),
    *("--disable-extensions", "--disable-default-apps", "--remote-debugging-pipe"),
    # whatever it asks for by name or address goes nowhere: no request may leave this machine
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
PATIENCE = 60.0  # seconds for one answer: a browser's start on a busy machine takes ten


class Browser:
    """One Chromium with one tab. `requests` and `complaints` are what the tab asked for, and what its console said."""

    def __init__(self) -> None:
        self._profile = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        to_it, self._out = os.pipe()
        self._in, from_it = os.pipe()
        # it reads descriptor 3 and writes 4: out of the way first, then the shell puts them there
        high = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (to_it, from_it)]
        self._process = subprocess.Popen(
            [
                *("bash", "-c", f'exec "$@" 3<&{high[0]} 4>&{high[1]}', "bash", "chromium", *FLAGS),
                *(f"--user-data-dir={self._profile.name}", "about:blank"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=high,
            start_new_session=True,
        )
        for end in (to_it, from_it, *high):
            os.close(end)
        self._rest = b""
        self._numbers = itertools.count(1)
        self._session = ""
        self.requests: list[str] = []
        self.complaints: list[str] = []
        try:
            tab = self.ask("Target.createTarget", url="about:blank")["targetId"]
            self._session = self.ask("Target.attachToTarget", targetId=tab, flatten=True)["sessionId"]
            for domain in ("Page", "Network", "Log", "Runtime"):
                self.ask(f"{domain}.enable")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it, with all its processes."""
        with contextlib.suppress(OSError, TimeoutError):
            self._session = ""
            self.ask("Browser.close")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._in)
        os.close(self._out)
        self._profile.cleanup()

    def open(self, path: Path) -> None:
        """Load a file and wait until it is there; requests and complaints begin anew."""
        self.requests.clear()
        self.complaints.clear()
        self.ask("Page.navigate", url=path.absolute().as_uri())
        while self.run("document.readyState") != "complete":
            time.sleep(0.02)

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise AssertionError(answer["exceptionDetails"])
        return answer["result"].get("value")

    def look(self, *, width: int, theme: str = "light", media: str = "screen") -> None:
        """From now on the window is so wide, and the person prefers that theme."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 600)
        feature = {"name": "prefers-color-scheme", "value": theme}
        self.ask("Emulation.setEmulatedMedia", media=media, features=[feature])

    def picture(self, path: Path, clip: dict[str, float] | None = None) -> None:
        """The whole page as a PNG, or a part of it (x, y, width, height)."""
        more = {"clip": {"scale": 1, **clip}} if clip else {}
        answer = self.ask("Page.captureScreenshot", captureBeyondViewport=True, **more)
        path.write_bytes(base64.b64decode(answer["data"]))

    def ask(self, method: str, **parameters: object) -> dict[str, Any]:
        """One command, and its answer; what happens meanwhile is noted."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + PATIENCE
        while True:
            told = self._next(until)
            if told.get("id") == number:
                if "error" in told:
                    raise AssertionError(f"{method}: {told['error']}")
                return dict(told["result"])
            self._note(told.get("method", ""), told.get("params", {}))

    def _next(self, until: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self._in], [], [], left)[0]:
                raise TimeoutError("chromium does not answer")
            piece = os.read(self._in, 1 << 20)
            if not piece:
                raise OSError(f"chromium ended with {self._process.wait()}")
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(line))

    def _note(self, method: str, told: dict[str, Any]) -> None:
        match method:
            case "Network.requestWillBeSent":
                self.requests.append(told["request"]["url"])
            case "Log.entryAdded":
                self.complaints.append(told["entry"]["text"])
            case "Runtime.consoleAPICalled":
                self.complaints.append(json.dumps(told["args"]))
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(told["exceptionDetails"]))


# What a name, a version or a target may say to whoever looks at it
ATTACKS = (
    "<script>document.title='bent'</script>",
    "</script><script>document.title='bent'</script>",
    "</style><style>*{display:none}</style>",
    "\"><img src=x onerror=\"document.title='bent'\">",
    "' onmouseover='document.title=`bent`",
    "<svg onload=document.title='bent'>",
    "<a href=javascript:document.title='bent'>a</a>",
    "<iframe src=//192.0.2.1/x></iframe><link rel=stylesheet href=//192.0.2.1/y>",
    "<base href=//192.0.2.1/><form action=//192.0.2.1/><button>",
    "<!-- ", "-->", "<![CDATA[", "]]>", "&lt;b&gt;", "&#x3c;b&#x3e;", "{{7*7}}", "{person}", "${7*7}", "%s%n",
    "\u202egnp.evil\u202c", "\u2066abc\u2069", "\x1b[2J\x1b]0;bent\x07", "a\x00b", "\ud800", "x" * 1500, "\u0301" * 300,
    "\u05d0\u05d1\u05d2", "\u738b\u5c0f\u660e",
)  # fmt: skip

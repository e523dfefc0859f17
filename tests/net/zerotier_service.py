"""Answers as ZeroTier's local API did in a recorded state: `python zerotier_service.py PORT TOKEN STATE.json`."""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_PORT, _TOKEN, _FILE = sys.argv[1:]
_ANSWERS = json.loads(Path(_FILE).read_text())["zerotier_api"]


class Handler(BaseHTTPRequestHandler):
    """401 without the token, 404 for what was not recorded."""

    def do_GET(self) -> None:
        """Give what was recorded for this path."""
        recorded = _ANSWERS.get(self.path, {"status": 404, "body": {}})
        if self.path != "/health" and self.headers.get("X-ZT1-Auth") != _TOKEN:
            recorded = {"status": 401, "body": {}}
        data = json.dumps(recorded["body"]).encode()
        self.send_response(recorded["status"])
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


with ThreadingHTTPServer(("127.0.0.1", int(_PORT)), Handler) as server:
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    server.serve_forever()

"""The command line's end of the control socket: one JSON object each way over STATE/run/control.sock.

The supervisor's end is serve/supervisor/control_server.py.
"""

import json
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from relay.errors import NotPermitted, RelayNotRunning

SOCKET = "control.sock"
SECONDS = 70.0  # a reload checks the site in a child, which has 60
RETRY_SECONDS = 10.0  # for the next supervisor to answer a question that the one before it left open


def call(state: Path, question: Mapping[str, Any], timeout: float = SECONDS) -> dict[str, Any]:
    """Ask the running relay; its answer. Raises RelayNotRunning, or NotPermitted when the socket is another user's.

    A supervisor that hands over leaves a question to the next one: then it is asked again.
    """
    deadline = time.monotonic() + min(timeout, RETRY_SECONDS)
    while True:
        data = _exchange(state / "run" / SOCKET, question, timeout)
        if data or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    try:
        answer = json.loads(data)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise RelayNotRunning(f"{state / 'run' / SOCKET} gave no answer", "is another program behind it?")
    return answer


def listen(state: Path, question: Mapping[str, Any], timeout: float = SECONDS) -> Iterator[dict[str, Any]]:
    """Ask the running relay something whose answer comes in pieces; the last one has `last`, or is a refusal.

    Raises as `call` does, also when the answer ends before its last piece; `timeout` is between two of them.
    """
    path = state / "run" / SOCKET
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout)
        try:
            sock.connect(str(path))
            sock.sendall(json.dumps(question).encode() + b"\n")
            for line in sock.makefile("rb"):
                piece = json.loads(line)
                if not isinstance(piece, dict):
                    break
                yield piece
                if piece.get("last") or piece.get("ok") is False:
                    return
        except PermissionError:
            raise NotPermitted(f"{path} is not yours", "run it with sudo") from None
        except (OSError, ValueError) as error:
            if isinstance(error, ConnectionRefusedError | FileNotFoundError):
                hint = "start it: systemctl start relay, or: relayctl serve"
                raise RelayNotRunning(f"no relay answers at {path}", hint) from None
        raise RelayNotRunning(f"{path} gave no whole answer", "ask again: the relay may just be handing over")


def _exchange(path: Path, question: Mapping[str, Any], timeout: float) -> bytes:
    """The bytes of the answer; none when the connection was ended instead."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout)
        try:
            sock.connect(str(path))
            sock.sendall(json.dumps(question).encode() + b"\n")
            data = bytearray()
            while not data.endswith(b"\n"):
                piece = sock.recv(1 << 16)
                if not piece:
                    break
                data += piece
        except PermissionError:
            raise NotPermitted(f"{path} is not yours", "run it with sudo") from None
        except (ConnectionResetError, BrokenPipeError):
            return b""
        except OSError:
            raise RelayNotRunning(
                f"no relay answers at {path}", "start it: systemctl start relay, or: relayctl serve"
            ) from None
    return bytes(data)

"""The target of the bench: a TCP server that sends, receives and echoes bytes as fast as Python can.

    python target.py            prints its port on 127.0.0.1 and serves until standard input ends
    python target.py --drain P  connects to 127.0.0.1:P, asks for endless bytes and throws them away

A connection sends lines: `ping` gets one dot; `get N` gets N bytes; `put N` takes N bytes and answers one dot;
`echo` gets one dot and then everything back.
"""

import argparse
import contextlib
import os
import socket
import subprocess
import sys
import threading

from processes import Started

CHUNK = memoryview(os.urandom(1 << 20))


def serve(sock: socket.socket) -> None:
    """Serve the commands of one connection until it ends."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    room = bytearray(1 << 20)
    waiting = b""
    with sock, contextlib.suppress(OSError, ValueError):
        while True:
            while b"\n" not in waiting:
                more = sock.recv(4096)
                if not more or len(waiting) > 64:
                    return
                waiting += more
            line, _, waiting = waiting.partition(b"\n")
            word, _, number = line.partition(b" ")
            left = int(number or 0)
            if word == b"get":
                while left > 0:
                    sock.sendall(CHUNK[: min(left, len(CHUNK))])
                    left -= len(CHUNK)
            elif word == b"put":
                left -= len(waiting)
                waiting = b""
                while left > 0 and (size := sock.recv_into(room, min(left, len(room)))):
                    left -= size
                sock.sendall(b".")
            elif word == b"ping":
                sock.sendall(b".")
            elif word == b"echo":
                sock.sendall(b".")
                while size := sock.recv_into(room):
                    sock.sendall(memoryview(room)[:size])
                return


def drain(port: int) -> None:
    """Read everything from a forwarded port, as the reader of a bulk stream."""
    room = bytearray(1 << 20)
    with socket.create_connection(("127.0.0.1", port), 10) as sock, contextlib.suppress(OSError):
        sock.settimeout(None)
        sock.sendall(b"get 1000000000000\n")
        while sock.recv_into(room):
            pass


def target(started: Started) -> int:
    """Start a target; returns its port."""
    process = started.start([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    return int(process.stdout.readline())


def main() -> None:
    """Serve on a free port, or drain one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--drain", type=int)
    port = parser.parse_args().drain
    if port:
        return drain(port)
    threading.stack_size(256 * 1024)
    server = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(server.getsockname()[1], flush=True)

    def accept() -> None:
        while True:
            sock, _ = server.accept()
            threading.Thread(target=serve, args=(sock,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()

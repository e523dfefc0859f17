"""The least CPU that moving a byte costs in Python on this machine: a proxy without cryptography, and AES-GCM alone.

    python bench/floor.py [--port P]

Prints the floor; with --port it is the proxy: a plain TCP proxy to 127.0.0.1:P.
"""

import argparse
import contextlib
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NoReturn

import processes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from processes import Started
from target import target

ROOM = 1 << 18  # bytes moved at once; fewer cause more system calls, more do not fit the cache
PACKET = 1 << 15  # bytes, as OpenSSH sends them
SYNCS = 50


class Proxy:
    """The proxy in a process of its own, and its CPU cost."""

    def __init__(self, started: Started, port: int) -> None:
        process = started.start([sys.executable, __file__, "--port", str(port)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        self._pid, self._port = process.pid, int(process.stdout.readline())

    def cost(self, size: int, *, up: bool) -> float:
        """CPU seconds per GB of moving `size` bytes in one direction (see target.py)."""
        room = bytearray(ROOM)
        with socket.create_connection(("127.0.0.1", self._port), 10) as sock:
            sock.settimeout(60)
            sock.sendall(b"ping\n")
            assert sock.recv(1) == b"."
            before = processes.cpu_now([self._pid])
            sock.sendall(b"%s %d\n" % (b"put" if up else b"get", size))
            left = size
            while left > 0:
                some = min(left, ROOM)
                left -= sock.send(memoryview(room)[:some]) if up else _received(sock, room, some)
            if up:
                assert sock.recv(1) == b"."
            return (processes.cpu_now([self._pid]) - before) / (size / 1e9)


def _received(sock: socket.socket, room: bytearray, most: int) -> int:
    size = sock.recv_into(room, most)
    if not size:
        raise SystemExit("the proxy ended")
    return size


def proxy(port: int) -> NoReturn:
    """Move bytes between each client and 127.0.0.1:`port`, with one thread per direction, until killed."""
    server = socket.create_server(("127.0.0.1", 0))
    print(server.getsockname()[1], flush=True)

    def move(source: socket.socket, sink: socket.socket) -> None:
        room = bytearray(ROOM)
        view = memoryview(room)
        with contextlib.suppress(OSError):
            while size := source.recv_into(room):
                sink.sendall(view[:size])
            sink.shutdown(socket.SHUT_WR)

    while True:
        here, _ = server.accept()
        there = socket.create_connection(("127.0.0.1", port))
        for ends in ((here, there), (there, here)):
            threading.Thread(target=move, args=ends, daemon=True).start()


def cipher(bits: int, *, up: bool, size: int = 128 << 20) -> float:
    """CPU seconds per GB of AES-GCM in place by `cryptography`: encryption, or with `up` decryption."""
    seal = AESGCM(os.urandom(bits // 8))
    nonce, head = os.urandom(12), bytes(4)
    plain, packet = bytearray(os.urandom(PACKET)), bytearray(PACKET + 16)
    seal.encrypt_into(nonce, plain, head, packet)
    begin = time.thread_time()
    for _ in range(size // PACKET):
        if up:
            seal.decrypt_into(nonce, packet, head, plain)
        else:
            seal.encrypt_into(nonce, plain, head, packet)
    return (time.thread_time() - begin) / (size / 1e9)


def sync(directory: Path) -> float:
    """Median ms of appending one page to a file in `directory` durably: the least cost of an audit row."""
    spent = []
    with (directory / "sync-probe").open("ab", buffering=0) as file:
        for _ in range(SYNCS):
            begin = time.perf_counter()
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            spent.append((time.perf_counter() - begin) * 1000)
    (directory / "sync-probe").unlink()
    return statistics.median(spent)


def main() -> None:
    """Print the floor of this machine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, help="be the proxy to this port")
    port = parser.parse_args().port
    if port:
        proxy(port)
    with Started() as started:
        one = Proxy(started, target(started))
        for up in (False, True):
            moved = statistics.median(one.cost(256 << 20, up=up) for _ in range(5))
            for bits in (128, 256):
                sealed = cipher(bits, up=up)
                way = "up" if up else "down"
                print(f"{way}, aes{bits}-gcm: {moved:.2f} moving + {sealed:.2f} cipher = {moved + sealed:.2f} s/GB")
    print(f"sync in the current directory: {sync(Path()):.2f} ms")


if __name__ == "__main__":
    main()

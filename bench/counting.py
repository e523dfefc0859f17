"""Counters of what code does: calls, bytecodes, system calls and memory filled. Nothing is timed."""

import ctypes
import os
import resource
import select
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from types import CodeType, FrameType
from typing import Any

OWN_BLOCK = 1 << 12  # bytes, one page: smaller blocks leave no room in the heap for a copy of a packet
COPY = 1 << 15  # bytes of the reference copy: one packet
MOVES = "recv recv_into recvmsg recvmsg_into recvfrom recvfrom_into send sendall sendmsg sendto read readv write writev"
OTHERS = "setsockopt getsockopt shutdown close connect connect_ex register unregister modify urandom getrandom"
SYSTEM = frozenset([*MOVES.split(), *OTHERS.split()])
_TOOL = 4  # of sys.monitoring: 0 to 2 and 5 are those of debuggers, coverage and profilers
HANDS = (socket.socket, socket.SocketType, select.epoll)


class Count:
    """Context that counts in code of files below `places`, in this thread only."""

    def __init__(self, places: Iterable[str], *, bytecodes: bool = False) -> None:
        """`bytecodes`: count only these, because tracing each one would distort the other counts."""
        self.calls = self.bytecodes = self.system = self.faults = 0
        self._places = tuple(places)
        self._known: dict[str, bool] = {}
        self._each = bytecodes

    def __enter__(self) -> "Count":
        self._before = _faults()
        if self._each and sys.version_info >= (3, 12):
            self._monitor()
        elif self._each:
            sys.settrace(self._entered)
        else:
            sys.setprofile(self._called)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        sys.settrace(None)
        if sys.version_info >= (3, 12) and sys.monitoring.get_tool(_TOOL) is not None:
            sys.monitoring.set_events(_TOOL, 0)
            sys.monitoring.free_tool_id(_TOOL)
        self.faults += _faults() - self._before

    def _monitor(self) -> None:
        """Count with sys.monitoring: since Python 3.12 a frame's f_trace_opcodes comes too late for its own frame."""
        if sys.version_info >= (3, 12):  # for mypy, which reads this file as Python 3.11
            thread = threading.get_ident()

            def executed(code: CodeType, _: int) -> object:
                if not self._is_ours(code.co_filename):
                    return sys.monitoring.DISABLE
                self.bytecodes += threading.get_ident() == thread
                return None

            sys.monitoring.use_tool_id(_TOOL, "relay bench")
            sys.monitoring.register_callback(_TOOL, sys.monitoring.events.INSTRUCTION, executed)
            sys.monitoring.restart_events()
            sys.monitoring.set_events(_TOOL, sys.monitoring.events.INSTRUCTION)

    def _ours(self, frame: FrameType | None) -> bool:
        return frame is not None and self._is_ours(frame.f_code.co_filename)

    def _is_ours(self, name: str) -> bool:
        found = self._known.get(name)
        if found is None:
            found = self._known[name] = name.startswith(self._places)
        return found

    def _called(self, frame: FrameType, event: str, what: Any) -> None:
        if event == "call":
            self.calls += self._ours(frame) or self._ours(frame.f_back)
        elif event == "c_call" and self._ours(frame):
            self.calls += 1
            if what.__name__ in SYSTEM and (isinstance(what.__self__, HANDS) or what.__self__ is os_module):
                self.system += 1

    def _entered(self, frame: FrameType, event: str, what: Any) -> Callable[..., Any] | None:
        if not self._ours(frame):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self._executed

    def _executed(self, frame: FrameType, event: str, what: Any) -> Callable[..., Any]:
        self.bytecodes += event == "opcode"
        return self._executed


os_module = sys.modules[os.urandom.__module__]  # `posix`: the functions of os are methods of this module


def _faults() -> int:
    """The number of pages that this thread touched for the first time."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt


class Fresh:
    """Setting of malloc that maps each block of OWN_BLOCK or more, so that filling one causes page faults."""

    def __init__(self) -> None:
        """Raises SystemExit without glibc, because copies could not be counted."""
        try:
            mallopt = ctypes.CDLL(None).mallopt
        except AttributeError:
            raise SystemExit("copies cannot be counted: this malloc has no mallopt(3)") from None
        mallopt(-3, OWN_BLOCK)  # M_MMAP_THRESHOLD
        mallopt(-2, 0)  # M_TOP_PAD: no room above the last block either
        mallopt(-1, 0)  # M_TRIM_THRESHOLD
        self._kept: list[bytes] = []
        self.plug()
        source = memoryview(os.urandom(COPY))
        before = _faults()
        for _ in range(100):
            bytes(source)
        self.copy = (_faults() - before) / 100  # faults of COPY bytes copied once

    def plug(self) -> None:
        """Allocate the free room in the heap for such blocks, which malloc would use first."""
        for size in (1 << 18, 1 << 16, 1 << 15, OWN_BLOCK):
            mapped: list[bytes] = []
            while len(mapped) < 32:
                before = _faults()
                block = b"x" * size
                is_mapped = _faults() - before >= size / resource.getpagesize()
                (mapped if is_mapped else self._kept).append(block)
                if len(self._kept) > 10_000:
                    raise SystemExit("copies cannot be counted: malloc does not do as mallopt(3) told it")

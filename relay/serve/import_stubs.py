"""Stubs for library modules that a serving process never needs.

asyncssh is also an SSH client, a file server and a terminal. A worker does not load these modules: that saves 5 MB in
each, and code that could start a program or read a file for a client is absent, not merely refused. Install the stubs
before asyncio and asyncssh are imported, and only in a process of its own.
"""

import sys
from types import ModuleType
from typing import Any

# asyncio and asyncssh work without these, as on a Python that was built without them
MISSING = ("ssl", "bcrypt", "asyncssh.crypto.umac", "asyncssh.crypto.x509")
# asyncssh imports names from these, to subclass or annotate with; an unusable class is enough for that
EMPTY = (
    "agent",
    "client",
    "editor",
    "keysign",
    "known_hosts",
    "pkcs11",
    "process",
    "scp",
    "sftp",
    "socks",
    "sshsig",
    "subprocess",
    "tuntap",
    "x11",
)


class _Absent:
    """Stands for any class of a module that is left out."""

    def __class_getitem__(cls, item: Any) -> type:
        return cls

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise RuntimeError(f"{type(self).__name__} is not loaded in a worker")


class _Empty(ModuleType):
    """A module that has a stub for every name."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        absent = type(name, (_Absent,), {})
        setattr(self, name, absent)
        return absent


def leave_out() -> None:
    """Install the stubs of a worker in this process."""
    for name in MISSING:
        sys.modules[name] = None  # type: ignore[assignment]  # what `import` understands as "there is none"
    for name in EMPTY:
        sys.modules[f"asyncssh.{name}"] = _Empty(f"asyncssh.{name}")


def leave_out_tls() -> None:
    """Install the stub of the supervisor, which has no asyncssh and uses no TLS."""
    sys.modules["ssl"] = None  # type: ignore[assignment]  # as above: asyncio would load OpenSSL with it

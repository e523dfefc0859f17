"""What do serving processes leave out of the libraries they use? What a relay never needs.

asyncssh is a client, a file server and a terminal as well. In a worker the modules of that are not loaded: it is
5 MB less in each, and code that could start a program or read a file for a client is not merely refused there but
absent. Must run before asyncio and asyncssh are imported, and only in a process of its own.
"""

import sys
from types import ModuleType
from typing import Any

# asyncio and asyncssh go on without these by themselves, as on a Python that was built without them
MISSING = ("ssl", "bcrypt", "asyncssh.crypto.umac", "asyncssh.crypto.x509")
# asyncssh imports names from these, to subclass or to annotate with; a name that cannot be used is enough for that
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
    """Whatever is taken from a module that is left out."""

    def __class_getitem__(cls, item: Any) -> type:
        return cls

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise RuntimeError(f"{type(self).__name__} is not loaded in a worker")


class _Empty(ModuleType):
    """Has each name that it is asked for, and nothing behind it."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        absent = type(name, (_Absent,), {})
        setattr(self, name, absent)
        return absent


def leave_out() -> None:
    """Keep them from being loaded in this process."""
    for name in MISSING:
        sys.modules[name] = None  # type: ignore[assignment]  # what `import` understands as "there is none"
    for name in EMPTY:
        sys.modules[f"asyncssh.{name}"] = _Empty(f"asyncssh.{name}")


def leave_out_tls() -> None:
    """The supervisor has no asyncssh; what it speaks, it speaks in clear and to this machine."""
    sys.modules["ssl"] = None  # type: ignore[assignment]  # as above: asyncio would load OpenSSL with it

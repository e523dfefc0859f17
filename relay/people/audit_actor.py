"""The administrator of a command, as fields of an audit row."""

import os
import pwd
from collections.abc import Mapping
from pathlib import Path

from relay.core.audit.event import Value
from relay.core.escape import escape

_NOBODY = 4294967295  # (uid_t) -1: no log-in, as for a service (proc_pid_loginuid(5))


def fields(environ: Mapping[str, str] = os.environ, why: str = "") -> dict[str, Value]:
    """The real uid, the login uid that the kernel keeps across sudo, SUDO_USER as a hint, and the given reason."""
    found: dict[str, Value] = {"by_uid": os.getuid()}
    try:
        login = int(Path("/proc/self/loginuid").read_text())
        if login != _NOBODY:
            found["by_login_uid"] = login
    except (OSError, ValueError):
        pass  # not Linux, or a kernel without audit
    if environ.get("SUDO_USER"):
        found["by_sudo"] = escape(environ["SUDO_USER"], 64)
    if why:
        found["why"] = escape(why, 500)
    return found


def word(found: Mapping[str, Value]) -> str:
    """One word from `fields`: the name at log-in, with the acting user after a slash if different."""
    uid, login = found["by_uid"], found.get("by_login_uid")
    name = _name(uid)
    return name if login is None or login == uid else f"{_name(login)}/{name}"


def _name(uid: Value) -> str:
    assert isinstance(uid, int)
    try:
        return escape(pwd.getpwuid(uid).pw_name, 40)
    except (KeyError, OverflowError):
        return f"uid{uid}"

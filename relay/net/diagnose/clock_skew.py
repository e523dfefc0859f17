"""Do this machine's clock and a gateway's agree, and is this one kept right? As a leg of `net verify`.

Rules with hours, expiring keys and log lines of two machines laid side by side all want it.
"""

from pathlib import Path

from relay.core.policy.model import Address
from relay.errors import NotPermitted, RelayError
from relay.net import system_commands
from relay.net.diagnose.path_verdict import Leg
from relay.net.probe import ping

NAME = "clock"
MOST = 5.0  # seconds of difference; more, and the order of two machines' log lines is a riddle
_TIMEOUT = 1.5  # seconds
_TRIES = 2
_MARK = Path("/run/systemd/timesync/synchronized")  # systemd-timesyncd.service(8)


def look(gateway: Address, interface: str) -> Leg:
    """How far the gateway's clock is off, and whether NTP keeps ours."""
    kept = synchronised()
    ours = {True: "NTP keeps this machine's", False: "this machine's is not kept by NTP", None: ""}[kept]
    cure = "timedatectl set-ntp true" if kept is False else ""
    skew, why = None, "the gateway answers no ICMP timestamp"
    try:
        for _ in range(_TRIES):
            skew = ping.clock(gateway, interface=interface, timeout=_TIMEOUT)
            if skew is not None:
                break
    except NotPermitted as error:
        why = f"{error.what}"
    if skew is None:
        what = "; ".join(part for part in (f"the gateway's is not known ({why})", ours) if part)
        return Leg(NAME, "warning" if kept is False else "skipped", what, cure)
    figures = (("skew_seconds", round(skew, 3)),)
    words = f"{gateway} is {abs(skew):.2f} s {'ahead' if skew > 0 else 'behind'}"
    if abs(skew) > MOST:
        cure = cure or "on the gateway: timedatectl set-ntp true"
        return Leg(NAME, "warning", "; ".join(part for part in (words, ours) if part), cure, figures=figures)
    state = "warning" if kept is False else "ok"
    return Leg(NAME, state, "; ".join(part for part in (words, ours) if part), cure, figures=figures)  # type: ignore[arg-type]  # "warning" or "ok"


def synchronised() -> bool | None:
    """Whether NTP keeps this machine's clock; None where nobody can say (a container, no systemd)."""
    if _MARK.exists():
        return True
    try:
        ended = system_commands.run("timedatectl", "show", "--property=NTPSynchronized", "--value", timeout=3)
    except RelayError:
        return None
    return {"yes": True, "no": False}.get(ended.output.strip()) if not ended.status else None

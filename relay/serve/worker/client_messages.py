"""Texts shown to the client: short reasons with an id. The details are for the operator (`relayctl audit show ID`)."""

import datetime
from collections.abc import Sequence

from relay.core.policy.model import Decision, Reason

MAX_TARGETS = 12  # that `ssh relay` names
BUSY = "the relay cannot take this now, please try again"
_REFUSED = {
    Reason.BAD_TARGET: "that is not a host and port",
    Reason.UNKNOWN_TARGET: "no such host behind this relay",
    Reason.KEY_UNLISTED: "your key is no longer accepted",
    Reason.KEY_REVOKED: "your key is no longer accepted",
    Reason.KEY_EXPIRED: "your key has expired",
    Reason.KEY_FROZEN: "your key is frozen for a while",
    Reason.KEY_SOURCE: "your key is not accepted from this address",
    Reason.KEY_NO_FORWARDING: "your key may not open forwards",
    Reason.NO_POLICY: BUSY,
}
_NO_MORE = "you may not reach that any more"
_ENDED = {
    "killed": "the administrator has ended this",
    "policy-changed": "that network is reached another way now, please connect again",
    Reason.KEY_SOURCE.value: "your key is no longer accepted from this address",
    Reason.KEY_PRESENCE.value: "your key is no longer accepted without touch or PIN",
    Reason.KEY_NO_FORWARDING.value: "your key may not open forwards any more",
}
_REASONS = frozenset(reason.value for reason in Reason)
_DIAL = {
    "target-refused": "the host is up, but nothing listens on that port",
    "target-silent": "the host does not answer",
    "target-unreachable": "the host does not answer",
    "gateway-silent": "the gateway of the network behind this relay does not answer",
    "overlay-down": "the network behind this relay is down",
}


def refused(decision: Decision, reference: str) -> str:
    """The text of the channel-open failure for a denied forward (RFC 4254 5.1)."""
    if decision.choices:
        text = f"that name means several hosts, say which: {', '.join(decision.choices[:8])}"
    else:
        text = _REFUSED.get(decision.reason, "you may not reach that")
    return f"relay: {text} (id {reference})"


LIMITS = {
    "person": "you have as many forwards open as one person may",
    "key": "your key has as many forwards open as one key may",
    "target": "that host has as many forwards open as one target may",
    "connection": "you have as many connections open as one person may",
    "dials": "too many pending connection attempts, please try again",
}


def limited(limit: str, reference: str) -> str:
    """The text of the channel-open failure for a forward beyond a limit."""
    return f"relay: {LIMITS.get(limit, BUSY)} (id {reference})"


def failed(reason: str, reference: str) -> str:
    """The text of the channel-open failure for a forward that was allowed but not opened."""
    return f"relay: {_DIAL.get(reason, BUSY)} (id {reference})"


def ended(reason: str) -> str:
    """The reason of a revocation, for a connection or for a forward that is being opened."""
    return _ENDED.get(reason) or _REFUSED.get(Reason(reason) if reason in _REASONS else Reason.NO_RULE) or _NO_MORE


def no_shell(person: str, expires: int | None, targets: Sequence[str], public: str, reference: str) -> str:
    """The text of `ssh relay`: what this host is, the person, the key's end (Unix seconds), the reachable targets."""
    validity = "does not expire"
    if expires is not None:
        validity = f"is valid until {datetime.datetime.fromtimestamp(expires, datetime.UTC):%Y-%m-%d %H:%M} UTC"
    jump = public or "THIS-RELAY"
    host, _, port = jump.rpartition(":")
    jump = f"{person}@{host}" + ("" if port == "22" else f":{port}") if host else f"{person}@{jump}"
    lines = [
        "this is a jump relay: it opens no shell, it only passes connections on",
        f"you are logged in as {person}; your key {validity}",
    ]
    if targets:
        more = " and more" if len(targets) >= MAX_TARGETS else ""
        lines.append(f"you may reach: {', '.join(targets)}{more}")
        lines.append(f"  ssh -J {jump} USER@{targets[0].split(':')[0]}")
    else:
        lines.append("no rule lets you reach anything at the moment; ask the administrator")
    return "\n".join([*lines, f"(id {reference})"])


def unknown_key(fingerprints: Sequence[str], reference: str) -> str:
    """Shown once if no offered key is known, in a round without prompts (RFC 4256 3.2)."""
    shown = "\n".join(f"  {fingerprint}" for fingerprint in fingerprints[:4])
    more = f"\n  and {len(fingerprints) - 4} more" if fingerprints[4:] else ""
    return (
        f"This relay knows none of the keys that were offered:\n{shown}{more}\n"
        f"Send your public key to the administrator, with the id {reference}."
    )


def unusable_key(text: str, reference: str) -> str:
    """Shown once if a known key has signed, but may not log in now."""
    return f"This relay knows your key, but {text} (id {reference})."


def too_slow(reference: str) -> str:
    """Shown to a client of a penalised source that has offered no known key in time."""
    return f"relay: too many failed log-ins from your address; no known key was offered in time (id {reference})"


LOGIN = {
    Reason.KEY_EXPIRED: "it has expired",
    Reason.KEY_FROZEN: "it is frozen for a while: many different targets were denied to it",
    Reason.KEY_SOURCE: "it is not accepted from this address",
    Reason.KEY_REVOKED: "it was revoked",
    Reason.KEY_PRESENCE: "the security key was not touched, or its PIN was not asked for",
}
TOO_MANY_KEYS = "too many unknown keys were offered; name the right one: ssh -o IdentitiesOnly=yes -i KEY"

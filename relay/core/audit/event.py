"""The audit events and their fields.

Names are stable (`noun.verb`) and fields are flat. A later version may add a name or an optional field, but never
change the meaning of an old one. docs/reference/audit-log.md has these tables, and a test compares the two.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Value = str | int | bool | None
SCHEMA = 1  # of a row's canonical text

# Characters of a text in a row: enough for a rule's name or the detail of a failure; longer untrusted text is cut.
LONGEST_TEXT = 1024


@dataclass(frozen=True, slots=True)
class Event:
    """An event. `id` is unique, so that an event sent twice is recorded once; `time` is UTC microseconds."""

    id: str
    time: int
    name: str  # a key of NAMES
    fields: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Field:
    """A field's kind (`text`, `number` or `truth`) and meaning; None stands for an unknown value."""

    kind: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Name:
    """An event's meaning, its required fields and its optional fields."""

    meaning: str
    always: tuple[str, ...]
    maybe: tuple[str, ...] = ()


FIELDS: Mapping[str, Field] = {
    "connection": Field("text", "id of the SSH connection; all its rows carry it"),
    "person": Field("text", "the owner of the proven key"),
    "login": Field("text", "the login name the client sent; recorded only, unless `login: strict`"),
    "credential": Field("text", "what proved the person: `key` today, certificates later"),
    "fingerprint": Field("text", "of the key, SHA256:... as `ssh-keygen -l` prints it"),
    "expires": Field("number", "end of the credential, Unix seconds; none: without end"),
    "client": Field("text", "address the TCP connection came from, v4-mapped addresses as IPv4"),
    "client_port": Field("number", "its source port"),
    "client_version": Field("text", "the client's SSH version line, escaped"),
    "forward": Field("text", "id of the forward; its opening and its closing row carry it"),
    "asked": Field("text", "the target as the client requested it, in canonical form if valid, escaped"),
    "zone": Field("text", "the zone authorized and dialled"),
    "address": Field("text", "the address authorized and dialled"),
    "port": Field("number", "the port authorized and dialled"),
    "rule": Field("text", "name of the rule that decided"),
    "rule_at": Field("text", "place of that rule: file:line"),
    "policy": Field("text", "version of the applied policy, 12 hexadecimal digits"),
    "worker": Field("text", "the worker process that carries the forward"),
    "reason": Field("text", "stable word: the reason of the denial or of the end"),
    "detail": Field("text", "the full reason, for the operator only, escaped"),
    "obstacle": Field("text", "the obstacle on the way to the zone, a stable word (interface-down, route-missing ...)"),
    "count": Field("number", "number of equal events that this row records"),
    "sent": Field("number", "bytes from the client to the target"),
    "received": Field("number", "bytes from the target to the client"),
    "duration": Field("number", "microseconds from opening to end"),
    "forwards": Field("number", "forwards opened in the connection"),
    "kind": Field("text", "what was refused: `channel`, `global` or `channel-request`; or what was limited"),
    "type": Field("text", "its type as the client named it (session, tcpip-forward, pty-req ...), escaped"),
    "by_uid": Field("number", "real user id of the administrator on the relay's machine"),
    "by_login_uid": Field("number", "user id of that administrator's log-in, kept by the kernel across sudo"),
    "by_sudo": Field("text", "SUDO_USER: a hint, not a proof"),
    "why": Field("text", "the reason that the administrator gave"),
    "file": Field("text", "the file concerned"),
    "line": Field("number", "the line in it"),
    "keys": Field("number", "number of keys in force afterwards"),
    "version": Field("text", "version of the relay's program"),
    "pid": Field("number", "process id of the supervisor"),
    "algorithm": Field("text", "of the host key"),
    "source": Field("text", "an IPv4 address or IPv6 /64 where connections ended without a proven key"),
    "until": Field("number", "when it ends by itself, or time of the latest row in the archive; Unix seconds"),
    "refused": Field("number", "connections rejected meanwhile"),
    "first": Field("number", "number of the first row in the archive"),
    "last": Field("number", "number of the last row in the archive"),
    "digest": Field("text", "SHA-256 of the file, in hexadecimal"),
    "since": Field("number", "time of the earliest row in the archive, Unix seconds"),
    "epoch": Field("number", "number of the checkpoint; each is signed by a key of its own"),
    "key": Field("text", "public key (Ed25519, 32 bytes in base64) that signs this checkpoint, or will sign the next"),
    "next": Field("text", "public key that will sign the next checkpoint"),
    "open": Field("number", "forwards without a closing row"),
    "within": Field("number", "seconds within which the next checkpoint follows while the relay serves"),
    "signature": Field("text", "Ed25519, 64 bytes in base64, over the row before and this one without the signature"),
}

_CONNECTION = ("connection", "person", "fingerprint", "client")
_CONNECTION_MAYBE = ("login", "credential", "expires", "client_port", "client_version")
_TARGET = ("asked", "zone", "address", "port", "rule", "rule_at", "policy")
_BY = ("by_uid", "by_login_uid", "by_sudo", "why")

NAMES: Mapping[str, Name] = {
    "login.succeeded": Name(
        "a session was authenticated by a known key", _CONNECTION, (*_CONNECTION_MAYBE, "policy", "worker")
    ),
    "forward.opened": Name(
        "a forward was allowed; durable before the client was told",
        (*_CONNECTION, "forward", "asked", "zone", "address", "port"),
        (*_CONNECTION_MAYBE, "rule", "rule_at", "policy", "worker"),
    ),
    "forward.denied": Name(
        "a forward was refused",
        (*_CONNECTION, "asked", "reason"),
        (*_CONNECTION_MAYBE, "zone", "address", "port", "rule", "rule_at", "detail", "policy", "count", "worker"),
    ),
    "forward.closed": Name(
        "a forward ended (a failed dial too); exactly one for each opened",
        ("forward", "reason"),  # the rest is unknown if the worker was lost
        (
            *(*_CONNECTION, *_CONNECTION_MAYBE, *_TARGET, "sent", "received", "duration", "obstacle", "detail"),
            *("worker", *_BY),
        ),
    ),
    "request.refused": Name(
        "a request other than direct-tcpip was refused; equal ones of a connection are one row with a count",
        (*_CONNECTION, "kind", "type"),
        (*_CONNECTION_MAYBE, "count", "reason", "detail", "worker"),
    ),
    "connection.closed": Name(
        "a logged-in connection ended",
        ("connection", "reason"),
        ("person", "fingerprint", "client", *_CONNECTION_MAYBE, "detail", "duration", "forwards", "worker"),
    ),
    "connection.killed": Name(
        "an administrator ended a connection; closing rows follow",
        ("connection",),
        ("person", "fingerprint", "client", *_CONNECTION_MAYBE, "forwards", "detail", "worker", *_BY),
    ),
    "zone.down": Name("a zone is unreachable; its forwards are closed", ("zone", "reason"), ("detail",)),
    "zone.up": Name("a zone that was down is reachable again, after `duration`", ("zone",), ("duration",)),
    "key.added": Name("a key was added", ("person", "fingerprint"), (*_BY, "file", "line", "detail")),
    "key.revoked": Name("a key was revoked for ever", ("fingerprint",), ("person", *_BY, "file", "line", "detail")),
    "key.removed": Name("a key left the site's files", ("fingerprint",), ("person", *_BY, "file", "line", "detail")),
    "site.applied": Name("the site's files became the running configuration", ("policy",), ("keys", "detail", *_BY)),
    "site.rejected": Name(
        "the site's files have faults; the running configuration stays", (), ("policy", "keys", "detail", *_BY)
    ),
    "server.started": Name("the supervisor started to serve", ("version",), ("pid", "detail", "policy")),
    "server.stopped": Name("the supervisor was stopped", (), ("version", "pid", "detail", "policy")),
    "host_key.added": Name("a host key was added", ("fingerprint",), ("algorithm", *_BY, "file", "detail")),
    "host_key.retired": Name("a host key was retired", ("fingerprint",), ("algorithm", *_BY, "file", "detail")),
    "backup.made": Name("site and state were saved", (), ("file", "detail", *_BY)),
    "backup.restored": Name("site and state were restored", (), ("file", "detail", *_BY)),
    "ban.begun": Name(
        "a source is penalised: it may try one connection at a time",
        ("source", "reason", "count"),
        ("until", "detail"),
    ),
    "ban.ended": Name("a source is no longer penalised", ("source", "reason"), ("count", "refused", *_BY)),
    "scan.seen": Name(
        "a key was denied many different targets within a minute",
        ("person", "fingerprint", "count"),
        ("client", "connection", "detail"),
    ),
    "key.frozen": Name(
        "a key was frozen for a while; its sessions are ended",
        ("person", "fingerprint", "until", "reason"),
        ("client", "connection", *_BY),
    ),
    "key.thawed": Name("a frozen key is in force again", ("person", "fingerprint", "reason"), _BY),
    "limit.reached": Name(
        "forwards or connections of a person, key or target reached their limit; at most one row a minute for each",
        ("kind", "reason"),
        ("person", "fingerprint", "client", "count", "detail"),
    ),
    "audit.archived": Name(
        "a range of rows was archived and verified; afterwards it leaves the database",
        ("file", "first", "last", "count", "digest", "since", "until"),
        _BY,
    ),
    "audit.discarded": Name(
        "an archive was discarded",
        ("file", "first", "last", "count", "digest", "since", "until"),
        ("detail", *_BY),
    ),
    "audit.key": Name(
        "a chain of signing keys begins: the first one, or after a lost key or a restored backup",
        ("key", "reason", "epoch"),
        ("detail", *_BY),
    ),
    "audit.sealed": Name(
        "a checkpoint: a signature over all earlier rows (`count` of them since the preceding one)",
        ("epoch", "key", "next", "count", "open", "within", "signature"),
        ("policy", "detail"),
    ),
    "audit.lost": Name("rows could not be written (none of them opened a forward)", ("count",), ("detail", "reason")),
}

# Events that are recorded even when the disk is full, from its reserve: ends and revocations. Others wait in memory.
LAST = frozenset(
    (
        *("forward.closed", "connection.closed", "connection.killed", "key.revoked", "key.removed", "key.frozen"),
        *("host_key.retired", "zone.down", "site.applied", "server.stopped", "audit.lost"),
    )
)

_KINDS: Mapping[str, type] = {"text": str, "number": int, "truth": bool}


def event_from_json(raw: list[Any]) -> Event:
    """The event of a message between processes: id, time, name, fields. Raises ValueError or TypeError."""
    number, at, name, fields = raw
    return Event(str(number), int(at), str(name), fields)


def check(event: Event) -> tuple[str, ...]:
    """All violations of the tables above by `event`."""
    name = NAMES.get(event.name)
    if name is None:
        return (f"no event is named {event.name!r}",)
    violations = []
    if not event.id:
        violations.append("it has no id")
    if type(event.time) is not int or event.time <= 0:
        violations.append(f"time {event.time!r} is not UTC microseconds")
    violations += [f"{event.name} lacks {field}" for field in name.always if event.fields.get(field) is None]
    for key, value in event.fields.items():
        if key not in name.always and key not in name.maybe:
            violations.append(f"{event.name} has no field {key!r}")
        elif value is not None and type(value) is not _KINDS[FIELDS[key].kind]:
            violations.append(f"{key} is {type(value).__name__}, not a {FIELDS[key].kind}")
        elif isinstance(value, str) and len(value) > LONGEST_TEXT:
            violations.append(f"{key} is longer than {LONGEST_TEXT} characters")
    return tuple(violations)


def bounded(event: Event) -> Event:
    """`event` with texts cut to LONGEST_TEXT and lone surrogates escaped, which UTF-8 cannot encode."""
    if all(map(_is_plain, event.fields)) and all(map(_is_plain, event.fields.values())):  # nearly always
        return event
    fields = {
        _bounded(key): _bounded(value) if isinstance(value, str) else value for key, value in event.fields.items()
    }
    return Event(event.id, event.time, event.name, fields)


def _is_plain(value: Value) -> bool:
    return not isinstance(value, str) or (len(value) <= LONGEST_TEXT and value.isascii())


def _bounded(text: str) -> str:
    if len(text) > LONGEST_TEXT:
        text = text[: LONGEST_TEXT - 3] + "..."
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode("utf-8")

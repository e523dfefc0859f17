"""Which events does the audit log know, and which fields does each carry?

The names are stable (`noun.verb`), the fields are flat. Growing means adding a name or an optional field, never
changing the meaning of an old one. docs/audit.md is generated from the tables here and a test compares the two.
"""

from collections.abc import Mapping
from dataclasses import dataclass

Value = str | int | bool | None
SCHEMA = 1  # of a row's canonical text; grows only by adding fields

# A text in a row: the longest honest one is a rule's name or the detail of a failure; strangers' text is cut here.
LONGEST_TEXT = 1024


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. `id` is unique (sending it twice records it once); `time` is UTC microseconds."""

    id: str
    time: int
    name: str  # a key of NAMES
    fields: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Field:
    """What one field holds: `text`, `number` or `truth` (None is always possible: not known)."""

    kind: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Name:
    """What one event means, the fields it always has, and those it may have."""

    meaning: str
    always: tuple[str, ...]
    maybe: tuple[str, ...] = ()


FIELDS: Mapping[str, Field] = {
    "connection": Field("text", "id of the SSH connection; all its rows carry it"),
    "person": Field("text", "who: the owner of the proven key"),
    "login": Field("text", "the login name the client sent; recorded, never judged (unless `login: strict`)"),
    "credential": Field("text", "what proved the person: `key` today, certificates later"),
    "fingerprint": Field("text", "of the key, SHA256:... as `ssh-keygen -l` prints it"),
    "expires": Field("number", "when the credential ends, Unix seconds; none: it does not"),
    "client": Field("text", "address the TCP connection came from, v4-mapped addresses as IPv4"),
    "client_port": Field("number", "its source port"),
    "client_version": Field("text", "the client's SSH version line, escaped"),
    "forward": Field("text", "id of the forward; its opening and its closing row carry it"),
    "asked": Field("text", "the target as the client asked for it, canonical where it could be read, escaped"),
    "zone": Field("text", "the zone judged and dialled"),
    "address": Field("text", "the address judged and dialled"),
    "port": Field("number", "the port judged and dialled"),
    "rule": Field("text", "name of the rule that decided"),
    "rule_at": Field("text", "where that rule stood: file:line"),
    "policy": Field("text", "version of the applied policy, 12 hexadecimal digits"),
    "worker": Field("text", "the worker process that carries the forward"),
    "reason": Field("text", "stable word: why it was denied, or how it ended"),
    "detail": Field("text", "in full, for the operator only, escaped"),
    "obstacle": Field("text", "what is wrong with the zone's way, a stable word (interface-down, route-missing ...)"),
    "count": Field("number", "how many equal events this row stands for"),
    "sent": Field("number", "bytes from the client to the target"),
    "received": Field("number", "bytes from the target to the client"),
    "duration": Field("number", "microseconds from opening to end"),
    "forwards": Field("number", "forwards that were opened in the connection"),
    "kind": Field("text", "what was refused: `channel`, `global` or `channel-request`; or what was limited"),
    "type": Field("text", "its type as the client named it (session, tcpip-forward, pty-req ...), escaped"),
    "by_uid": Field("number", "real user id of who did it on the relay's machine"),
    "by_login_uid": Field("number", "the user id of that person's log-in, kept by the kernel across sudo"),
    "by_sudo": Field("text", "SUDO_USER: a hint, not a proof"),
    "why": Field("text", "the reason typed by who did it"),
    "file": Field("text", "the file concerned"),
    "line": Field("number", "the line in it"),
    "keys": Field("number", "how many keys are in force afterwards"),
    "version": Field("text", "version of the relay's program"),
    "pid": Field("number", "process id of the supervisor"),
    "algorithm": Field("text", "of the host key"),
    "source": Field("text", "an IPv4 address or IPv6 /64 where connections ended without a proven key"),
    "until": Field("number", "when it ends by itself, or time of the latest row in the archive; Unix seconds"),
    "refused": Field("number", "connections that were turned away meanwhile"),
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
    "login.succeeded": Name("a known key was proven", _CONNECTION, (*_CONNECTION_MAYBE, "policy", "worker")),
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
        ("forward", "reason"),  # the rest is not known where the worker that carried it was lost
        (
            *(*_CONNECTION, *_CONNECTION_MAYBE, *_TARGET, "sent", "received", "duration", "obstacle", "detail"),
            *("worker", *_BY),
        ),
    ),
    "request.refused": Name(
        "something that is no direct-tcpip was asked for; equal ones of a connection are one row with a count",
        (*_CONNECTION, "kind", "type"),
        (*_CONNECTION_MAYBE, "count", "reason", "detail", "worker"),
    ),
    "connection.closed": Name(
        "a logged-in connection ended",
        ("connection", "reason"),
        ("person", "fingerprint", "client", *_CONNECTION_MAYBE, "detail", "duration", "forwards", "worker"),
    ),
    "connection.killed": Name(
        "somebody ended a connection; closing rows follow",
        ("connection",),
        ("person", "fingerprint", "client", *_CONNECTION_MAYBE, "forwards", "detail", "worker", *_BY),
    ),
    "zone.down": Name("a zone is not to be reached; its forwards are cut", ("zone", "reason"), ("detail",)),
    "zone.up": Name("a zone that was down is well again, after `duration`", ("zone",), ("duration",)),
    "key.added": Name("a key was let in", ("person", "fingerprint"), (*_BY, "file", "line", "detail")),
    "key.revoked": Name("a key was shut out for ever", ("fingerprint",), ("person", *_BY, "file", "line", "detail")),
    "key.removed": Name("a key left the site's files", ("fingerprint",), ("person", *_BY, "file", "line", "detail")),
    "site.applied": Name("the site's files became law", ("policy",), ("keys", "detail", *_BY)),
    "site.rejected": Name("the site's files have faults; the last law goes on", (), ("policy", "keys", "detail", *_BY)),
    "server.started": Name("the supervisor serves", ("version",), ("pid", "detail", "policy")),
    "server.stopped": Name("the supervisor ended on purpose", (), ("version", "pid", "detail", "policy")),
    "host_key.added": Name("a host key was added", ("fingerprint",), ("algorithm", *_BY, "file", "detail")),
    "host_key.retired": Name("a host key was retired", ("fingerprint",), ("algorithm", *_BY, "file", "detail")),
    "backup.made": Name("site and state were saved", (), ("file", "detail", *_BY)),
    "backup.restored": Name("site and state were brought back", (), ("file", "detail", *_BY)),
    "ban.begun": Name(
        "a source is penalised: one connection of it at a time may still try",
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
        "a key was shut out for a while; what was open with it is cut",
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
        "a range of rows stands in an archive, proven; only then it leaves the database",
        ("file", "first", "last", "count", "digest", "since", "until"),
        _BY,
    ),
    "audit.discarded": Name(
        "an archive is given up for good",
        ("file", "first", "last", "count", "digest", "since", "until"),
        ("detail", *_BY),
    ),
    "audit.key": Name(
        "a line of signing keys begins: the first of all, or because the key was lost or a backup restored",
        ("key", "reason", "epoch"),
        ("detail", *_BY),
    ),
    "audit.sealed": Name(
        "a checkpoint: everything before it, signed (`count` rows since the one before)",
        ("epoch", "key", "next", "count", "open", "within", "signature"),
        ("policy", "detail"),
    ),
    "audit.lost": Name("rows could not be written (no forward was open for them)", ("count",), ("detail", "reason")),
}

# What is recorded even in the last room that the disk has: ends, and whatever takes away. All else waits in memory.
LAST = frozenset(
    (
        *("forward.closed", "connection.closed", "connection.killed", "key.revoked", "key.removed", "key.frozen"),
        *("host_key.retired", "zone.down", "site.applied", "server.stopped", "audit.lost"),
    )
)

_KINDS: Mapping[str, type] = {"text": str, "number": int, "truth": bool}


def check(event: Event) -> tuple[str, ...]:
    """Everything that is wrong with `event` by the tables above; an empty tuple when nothing is."""
    name = NAMES.get(event.name)
    if name is None:
        return (f"no event is named {event.name!r}",)
    wrong = []
    if not event.id:
        wrong.append("it has no id")
    if type(event.time) is not int or event.time <= 0:
        wrong.append(f"time {event.time!r} is not UTC microseconds")
    wrong += [f"{event.name} lacks {field}" for field in name.always if event.fields.get(field) is None]
    for key, value in event.fields.items():
        if key not in name.always and key not in name.maybe:
            wrong.append(f"{event.name} has no field {key!r}")
        elif value is not None and type(value) is not _KINDS[FIELDS[key].kind]:
            wrong.append(f"{key} is {type(value).__name__}, not a {FIELDS[key].kind}")
        elif isinstance(value, str) and len(value) > LONGEST_TEXT:
            wrong.append(f"{key} is longer than {LONGEST_TEXT} characters")
    return tuple(wrong)


def bounded(event: Event) -> Event:
    """`event` as it can be stored: texts cut to LONGEST_TEXT, lone surrogates (no UTF-8 has them) written out."""
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

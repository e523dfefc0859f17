"""The settings of relay.yaml as every process sees them: plain values, each with its default.

`relay.site` validates the document and makes this value; the serving processes read it from the compiled
snapshot and so need neither PyYAML nor pydantic.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from relay.errors import InputRejected


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of DESIGN.md. Times in seconds, sizes in bytes."""

    login_grace: float = 30.0  # from accept to proven key
    unauthenticated: int = 500  # connections in all before log-in
    unauthenticated_per_source: int = 50  # of one IPv4 address or IPv6 /64: an office behind one address
    unknown_keys: int = 20  # offered keys that are not known; agents are full, offers are never penalties
    forwards_per_connection: int = 256
    forwards_per_person: int = 1024
    forwards_per_key: int = 1024
    forwards_per_target: int = 4096
    keepalive_interval: float = 30.0
    keepalive_count: int = 4
    dial_timeout: float = 10.0
    row_timeout: float = 10.0  # how long a forward waits for its audit row before it is refused as busy
    drain: float = 86400.0
    stop: float = 30.0  # SIGTERM without successor: open forwards have this long
    rsa_bits: int = 2048  # below: refused; below 3072: a warning
    buffer: int = 1 << 20  # bytes held per connection towards a client that does not read


@dataclass(frozen=True, slots=True)
class Settings:
    """relay.yaml. An empty file gives exactly these values."""

    listen: tuple[str, ...] = ("0.0.0.0:2222", "[::]:2222")
    public: str = ""  # host:port as people reach it
    workers: int = 0  # 0: min(cores, 4)
    timezone: str = "UTC"
    state: str = ""  # directory; empty: /var/lib/relay for /etc/relay, else SITE/state
    login: str = "recorded"  # or "strict": the login name must be the person's
    node: str = "relay"  # in every audit row
    chacha: str = "auto"  # "auto": only without AES instructions; "yes"; "no"
    limits: Limits = Limits()
    audit_keep_days: int = 400
    strangers_keep_days: int = 30


def settings_to_json(settings: Settings) -> dict[str, Any]:
    """Plain JSON values of `settings`, one key per setting, for the compiled snapshot."""
    return asdict(settings)


def settings_from_json(value: Mapping[str, Any]) -> Settings:
    """The settings in a compiled snapshot.

    A key this version does not know is ignored and a missing one has its default, so that a process that lives on
    after an upgrade and its successor can read each other's snapshots. Raises InputRejected for a wrong type.
    """
    limits = value.get("limits", {})
    if not isinstance(limits, Mapping):
        raise InputRejected("the snapshot's limits are not a mapping", "relayctl reload")
    return Settings(**_known(Settings(), value), limits=Limits(**_known(Limits(), limits)))


def _known(default: Settings | Limits, value: Mapping[str, Any]) -> dict[str, Any]:
    known: dict[str, Any] = {}
    for name in (field.name for field in fields(default)):
        if name not in value or name == "limits":
            continue
        given, usual = value[name], getattr(default, name)
        if isinstance(usual, tuple):
            right = isinstance(given, (list, tuple)) and all(isinstance(item, str) for item in given)
            given = tuple(given) if right else given
        elif isinstance(usual, float):
            right = isinstance(given, (int, float)) and not isinstance(given, bool)
            given = float(given) if right else given
        else:
            right = type(given) is type(usual)
        if not right:
            raise InputRejected(f"the snapshot's setting {name} is a {type(given).__name__}", "relayctl reload")
        known[name] = given
    return known

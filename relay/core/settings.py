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
    unauthenticated_per_network: int = 150  # of one /24 or /48: three such offices of one provider
    handshakes: int = 100  # of newcomers per second: a third of a core; two hundred `ssh` at once wait a second
    handshakes_penalised: int = 10  # of those, for all penalised sources together
    unknown_keys: int = 20  # offered keys that are not known; agents are full, offers are never penalties
    connections_per_person: int = 1024
    connections_per_key: int = 1024
    forwards_per_connection: int = 256
    forwards_per_person: int = 1024
    forwards_per_key: int = 1024
    forwards_per_target: int = 4096
    keepalive_interval: float = 30.0
    keepalive_count: int = 4
    dials: int = 512  # being made at once: a dead network holds each for dial_timeout
    dial_timeout: float = 10.0
    row_timeout: float = 10.0  # how long a forward waits for its audit row before it is refused as busy
    drain: float = 86400.0
    stop: float = 30.0  # SIGTERM without successor: open forwards have this long
    rsa_bits: int = 2048  # below: refused; below 3072: a warning
    buffer: int = 1 << 20  # bytes held per connection towards a client that does not read
    buffers: int = 2 << 30  # bytes that all clients may make the relay hold, if no target reads
    rate_per_person: int = 0  # bytes per second, both directions together; 0: no limit
    scan_targets: int = 60  # different denied targets of one key in a minute: no person types that many
    scan_freeze: float = 0.0  # seconds for which the key of a scan is frozen; 0: it is only recorded


@dataclass(frozen=True, slots=True)
class PenaltySettings:
    """What a source earns for each connection that ends without a proven key, in seconds (see sshd's own)."""

    failed: float = 5.0  # keys were offered, none was known or its signature was bad
    silent: float = 1.0  # none was offered: port scanners, and monitoring that only looks
    timeout: float = 10.0  # the grace time passed
    junk: float = 5.0  # that was no SSH
    begin: float = 15.0  # from this sum on the source is penalised, until all of it has run out
    most: float = 600.0  # the sum grows no further
    lately: float = 3600.0  # a source that proved a key so lately is never penalised
    sources: int = 10_000  # remembered; about 3 MB
    exempt: tuple[str, ...] = ("127.0.0.0/8", "::1/128")  # networks: this machine's own programs


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
    metrics: str = ""  # loopback ADDRESS:PORT or /PATH of a Unix socket; empty: shown nowhere
    limits: Limits = Limits()
    penalties: PenaltySettings = PenaltySettings()
    audit_keep_days: int = 400  # then rows move to archives, which are kept until somebody discards them
    audit_max_size: int = 2 << 30  # bytes of the audit database, 6 million forwards: older rows move too; 0: no bound
    strangers_keep_days: int = 30
    audit_seal_rows: int = 1000  # a checkpoint after so many rows,
    audit_seal_after: float = 60.0  # or so many seconds after the first row that is not sealed,
    audit_heartbeat: float = 900.0  # or so many after the last one: 96 rows a day, 20 MB a year; each minute 300 MB
    audit_anchors: str = ""  # a file, or "syslog", for the anchor of each checkpoint; empty: nowhere

    def processes(self, cores: int | None) -> int:
        """How many workers serve on a machine with so many cores."""
        return self.workers or min(cores or 1, 4)


def settings_to_json(settings: Settings) -> dict[str, Any]:
    """Plain JSON values of `settings`, one key per setting, for the compiled snapshot."""
    return asdict(settings)


def settings_from_json(value: Mapping[str, Any]) -> Settings:
    """The settings in a compiled snapshot.

    A key this version does not know is ignored and a missing one has its default, so that a process that lives on
    after an upgrade and its successor can read each other's snapshots. Raises InputRejected for a wrong type.
    """
    limits, penalties = value.get("limits", {}), value.get("penalties", {})
    if not isinstance(limits, Mapping) or not isinstance(penalties, Mapping):
        raise InputRejected("the snapshot's limits are not a mapping", "relayctl reload")
    return Settings(
        **_known(Settings(), value),
        limits=Limits(**_known(Limits(), limits)),
        penalties=PenaltySettings(**_known(PenaltySettings(), penalties)),
    )


def _known(default: Settings | Limits | PenaltySettings, value: Mapping[str, Any]) -> dict[str, Any]:
    known: dict[str, Any] = {}
    for name in (field.name for field in fields(default)):
        if name not in value or name in ("limits", "penalties"):
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

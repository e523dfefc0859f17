"""The settings of relay.yaml as plain values with defaults.

`relay.site` validates the file and makes this value. The serving processes read it from the snapshot, so they need
neither PyYAML nor pydantic.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from relay.errors import InputRejected


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits, with the defaults of DESIGN.md. Times in seconds, sizes in bytes."""

    login_grace: float = 30.0  # from accept to the end of authentication
    unauthenticated: int = 500  # connections before log-in, in total
    unauthenticated_per_source: int = 50  # of one IPv4 address or IPv6 /64: an office behind one address
    unauthenticated_per_network: int = 150  # of one /24 or /48: three such offices at one provider
    handshakes: int = (
        100  # new key exchanges per second: a third of a core; of 200 simultaneous log-ins half wait a second
    )
    handshakes_penalised: int = 10  # of these, for all penalised sources together
    unknown_keys: int = 20  # unknown keys per connection; agents hold many keys, so offers are not penalised
    connections_per_person: int = 1024
    connections_per_key: int = 1024
    forwards_per_connection: int = 256
    forwards_per_person: int = 1024
    forwards_per_key: int = 1024
    forwards_per_target: int = 4096
    keepalive_interval: float = 30.0
    keepalive_count: int = 4
    dials: int = 512  # concurrent dials: with an unreachable network each lasts dial_timeout
    dial_timeout: float = 10.0
    row_timeout: float = 10.0  # a forward that waits longer for its audit row is refused as busy
    drain: float = 86400.0
    stop: float = 30.0  # how long open forwards continue after SIGTERM
    rsa_bits: int = 2048  # shorter keys are refused; below 3072 a warning
    buffer: int = 1 << 20  # bytes buffered per connection for a client that does not read
    buffers: int = 2 << 30  # bytes buffered for all clients together
    rate_per_person: int = 0  # bytes per second, both directions together; 0: no limit
    scan_targets: int = 60  # different denied targets of one key in a minute: more than a person types
    scan_freeze: float = 0.0  # seconds for which the key of a scan is frozen; 0: the scan is only recorded


@dataclass(frozen=True, slots=True)
class PenaltySettings:
    """The penalty in seconds for each connection that ends without authentication, as sshd's PerSourcePenalties."""

    failed: float = 5.0  # keys were offered, but none authenticated
    silent: float = 1.0  # no key was offered: port scanners and monitoring
    timeout: float = 10.0  # login_grace passed
    junk: float = 5.0  # the client did not speak SSH
    begin: float = 15.0  # from this sum on the source is penalised, until the sum has expired
    most: float = 600.0  # maximum of the sum
    lately: float = 3600.0  # a source that logged in within this time is never penalised
    sources: int = 10_000  # remembered sources; about 3 MB
    exempt: tuple[str, ...] = ("127.0.0.0/8", "::1/128")  # networks: this machine's own programs


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of relay.yaml. An empty file has exactly these values."""

    listen: tuple[str, ...] = ("0.0.0.0:2222", "[::]:2222")
    public: str = ""  # HOST:PORT under which clients reach the relay
    workers: int = 0  # 0: min(cores, 4)
    timezone: str = "UTC"
    state: str = ""  # directory; empty: /var/lib/relay for /etc/relay, else SITE/state
    login: str = "recorded"  # or "strict": the login name must be the person's
    node: str = "relay"  # in every audit row
    chacha: str = "auto"  # "auto": only without AES instructions; "yes"; "no"
    metrics: str = ""  # loopback ADDRESS:PORT or /PATH of a Unix socket; empty: off
    limits: Limits = Limits()
    penalties: PenaltySettings = PenaltySettings()
    audit_keep_days: int = 400  # older rows move to archives, which are kept until an administrator discards them
    audit_max_size: int = (
        2 << 30
    )  # bytes of the audit database, 6 million forwards: then the oldest rows move too; 0: unlimited
    strangers_keep_days: int = 30
    audit_seal_rows: int = 1000  # a checkpoint after so many rows
    audit_seal_after: float = 60.0  # or so many seconds after the first row without one
    audit_heartbeat: float = (
        900.0  # or so many after the last checkpoint: 96 rows a day, 20 MB a year; with 60 it would be 300 MB
    )
    audit_anchors: str = ""  # a file or "syslog", for the anchor of each checkpoint; empty: off

    def processes(self, cores: int | None) -> int:
        """The number of workers on a machine with so many cores."""
        return self.workers or min(cores or 1, 4)


def settings_to_json(settings: Settings) -> dict[str, Any]:
    """`settings` as JSON values, one key per setting, for the snapshot."""
    return asdict(settings)


def settings_from_json(value: Mapping[str, Any]) -> Settings:
    """The settings in a snapshot.

    An unknown key is ignored and a missing one has its default, so that processes of two versions can read each other's
    snapshots during an upgrade. Raises InputRejected for a wrong type.
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

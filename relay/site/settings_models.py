"""Models of relay.yaml: settings, their bounds and their defaults (from relay.core.settings)."""

from typing import Annotated

from pydantic import BaseModel, Field, WithJsonSchema

from relay.core.settings import Limits, PenaltySettings, Settings
from relay.errors import InputRejected
from relay.site import locate, times
from relay.site.field_types import (
    DURATION_SCHEMA,
    Count,
    NetworkText,
    OneOrMany,
    StrictModel,
    choice,
    duration,
    parsed_by,
    size_between,
    string_schema,
    text_parsed_by,
)
from relay.site.yaml import scalars


def _whole_days(value: object) -> int:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        raise InputRejected(f"{str(value)[:20]} has no unit", "write a unit: 400d")
    given = scalars.text(value, "write 400d")
    seconds = times.duration(given)
    if seconds % 86400 or not 1 <= seconds // 86400 <= 36500:
        raise InputRejected(f"{given} is not a number of whole days", "write 400d; from 1d to 36500d")
    return int(seconds // 86400)


def _workers(value: object) -> int:
    if value == "auto":
        return 0
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 64:
        return value
    raise InputRejected(f"{str(value)[:20]!r} is not a number of processes", "write auto, or a number from 1 to 64")


def _state(given: str) -> str:
    if not locate.STATE_LINE.match(f"state: {given}") or ".." in given.split("/"):
        raise InputRejected(f"{given[:60]!r} is not a plain path", "letters, digits and . _ - / only, without ..")
    return given


def _database(value: object) -> int:
    if value == "none":
        return 0
    size = scalars.size(value)
    if not 64 << 20 <= size <= 1 << 40:
        raise InputRejected(f"{value} is out of bounds", "write none, or from 64MiB to 1024GiB")
    return size


def _rate(value: object) -> int:
    if value == "none":
        return 0
    size = scalars.size(value)
    if not 64 << 10 <= size <= 1 << 40:
        raise InputRejected(f"{value} is out of bounds", "write none, or from 64KiB to 1024GiB a second")
    return size


_L = Limits()


class LimitsEntry(StrictModel):
    """Limits; the defaults suit some hundreds of persons."""

    login_grace: Annotated[float, duration(1, 600), DURATION_SCHEMA] = Field(
        default=_L.login_grace, description="from accept to proven key"
    )
    unauthenticated: Annotated[int, Count(1, 100_000)] = Field(
        default=_L.unauthenticated, description="connections before log-in, in all"
    )
    unauthenticated_per_source: Annotated[int, Count(1, 100_000)] = Field(
        default=_L.unauthenticated_per_source, description="the same, of one IPv4 address or IPv6 /64"
    )
    unauthenticated_per_network: Annotated[int, Count(1, 100_000)] = Field(
        default=_L.unauthenticated_per_network, description="the same, of one /24 or /48"
    )
    handshakes: Annotated[int, Count(1, 100_000)] = Field(
        default=_L.handshakes, description="key exchanges of newcomers per second; more wait in line"
    )
    handshakes_penalised: Annotated[int, Count(1, 100_000)] = Field(
        default=_L.handshakes_penalised, description="of those, for all penalised sources together"
    )
    unknown_keys: Annotated[int, Count(1, 1000)] = Field(
        default=_L.unknown_keys, description="offered keys that are not known"
    )
    connections_per_person: Annotated[int, Count(1, 1_000_000)] = Field(
        default=_L.connections_per_person, description="logged in at once"
    )
    connections_per_key: Annotated[int, Count(1, 1_000_000)] = Field(
        default=_L.connections_per_key, description="logged in at once"
    )
    forwards_per_connection: Annotated[int, Count(1, 100_000)] = _L.forwards_per_connection
    forwards_per_person: Annotated[int, Count(1, 1_000_000)] = _L.forwards_per_person
    forwards_per_key: Annotated[int, Count(1, 1_000_000)] = _L.forwards_per_key
    forwards_per_target: Annotated[int, Count(1, 1_000_000)] = _L.forwards_per_target
    keepalive_interval: Annotated[float, duration(1, 3600), DURATION_SCHEMA] = _L.keepalive_interval
    keepalive_count: Annotated[int, Count(1, 100)] = _L.keepalive_count
    dials: Annotated[int, Count(1, 100_000)] = Field(
        default=_L.dials, description="targets being dialled at once; more wait their turn"
    )
    dial_timeout: Annotated[float, duration(0.5, 300), DURATION_SCHEMA] = _L.dial_timeout
    row_timeout: Annotated[float, duration(0.5, 300), DURATION_SCHEMA] = Field(
        default=_L.row_timeout, description="a forward waits so long for its audit row, then is refused as busy"
    )
    drain: Annotated[float, duration(0, 30 * 86400), DURATION_SCHEMA] = Field(
        default=_L.drain, description="open forwards outlive a change of version so long"
    )
    stop: Annotated[float, duration(0, 3600), DURATION_SCHEMA] = Field(
        default=_L.stop, description="open forwards outlive a stop so long"
    )
    rsa_bits: Annotated[int, Count(2048, 16384)] = Field(
        default=_L.rsa_bits, description="shorter RSA keys are refused"
    )
    buffer: Annotated[
        int,
        size_between(64 << 10, 64 << 20),
        string_schema("bytes with unit", "1MiB", pattern="^[0-9]+(B|KiB|MiB|GiB)$"),
    ] = Field(default=_L.buffer, description="per connection, for a client that does not read")
    buffers: Annotated[
        int,
        size_between(16 << 20, 1 << 40),
        string_schema("bytes with unit", "2GiB", pattern="^[0-9]+(B|KiB|MiB|GiB)$"),
    ] = Field(default=_L.buffers, description="of all connections together; more forwards get smaller windows")
    rate_per_person: Annotated[
        int, parsed_by(_rate), string_schema("bytes per second with unit, or none", "none", "20MiB")
    ] = Field(default=_L.rate_per_person, description="what one person's forwards may carry, both directions together")
    scan_targets: Annotated[int, Count(2, 1000)] = Field(
        default=_L.scan_targets, description="different denied targets of one key in a minute that are called a scan"
    )
    scan_freeze: Annotated[float, duration(0, 30 * 86400), DURATION_SCHEMA] = Field(
        default=_L.scan_freeze, description="a scan freezes its key so long; 0s: it is only recorded"
    )


_P = PenaltySettings()


class PenaltiesEntry(StrictModel):
    """Penalties of a source for connections without authentication, as sshd's PerSourcePenalties."""

    failed: Annotated[float, duration(0, 3600), DURATION_SCHEMA] = Field(
        default=_P.failed, description="keys were offered, and none was good"
    )
    silent: Annotated[float, duration(0, 3600), DURATION_SCHEMA] = Field(
        default=_P.silent, description="no key was offered"
    )
    timeout: Annotated[float, duration(0, 3600), DURATION_SCHEMA] = Field(
        default=_P.timeout, description="login_grace passed"
    )
    junk: Annotated[float, duration(0, 3600), DURATION_SCHEMA] = Field(
        default=_P.junk, description="what was said is no SSH"
    )
    begin: Annotated[float, duration(0, 3600), DURATION_SCHEMA] = Field(
        default=_P.begin, description="from this sum on a source is penalised, until all of it has run out"
    )
    most: Annotated[float, duration(1, 86400), DURATION_SCHEMA] = Field(
        default=_P.most, description="the sum grows no further"
    )
    lately: Annotated[float, duration(0, 30 * 86400), DURATION_SCHEMA] = Field(
        default=_P.lately, description="a source that proved a key so lately is never penalised"
    )
    sources: Annotated[int, Count(16, 1_000_000)] = Field(
        default=_P.sources, description="remembered at once; the one that was quiet for longest is forgotten first"
    )
    exempt: Annotated[list[NetworkText], OneOrMany()] = Field(
        default=[scalars.network(text) for text in _P.exempt],
        description="networks against which nothing is held; [] for none",
        examples=[["203.0.113.0/24"]],
    )


_S = Settings()


class AuditEntry(StrictModel):
    """Retention, checkpoints, anchors and export of the audit log."""

    keep: Annotated[int, parsed_by(_whole_days), string_schema("days", "400d")] = Field(
        default=_S.audit_keep_days, description="then rows move to archives, which are kept until they are discarded"
    )
    max_size: Annotated[int, parsed_by(_database), string_schema("bytes of the database, or none", "2GiB", "none")] = (
        Field(default=_S.audit_max_size, description="the oldest rows move to archives before it is reached")
    )
    strangers: Annotated[int, parsed_by(_whole_days), string_schema("days", "30d")] = _S.strangers_keep_days
    seal_rows: Annotated[int, Count(1, 1_000_000)] = Field(
        default=_S.audit_seal_rows, description="a signed checkpoint after so many rows"
    )
    seal_after: Annotated[float, duration(1, 3600), DURATION_SCHEMA] = Field(
        default=_S.audit_seal_after, description="or so long after the first row that is not sealed"
    )
    heartbeat: Annotated[float, duration(10, 86400), DURATION_SCHEMA] = Field(
        default=_S.audit_heartbeat, description="or so long after the last checkpoint, even without other rows"
    )
    anchors: Annotated[
        str,
        parsed_by(scalars.anchors),
        string_schema("a path, syslog, or off", "off", "syslog", "/var/log/relay-anchors"),
    ] = Field(default=_S.audit_anchors, description="where the anchor of each checkpoint goes")


class SettingsFile(StrictModel):
    """relay.yaml. Every setting has a default: an empty file is a working server that reaches nothing."""

    listen: Annotated[
        list[Annotated[str, parsed_by(scalars.listener), string_schema("ADDRESS:PORT", "0.0.0.0:2222", "[::]:2222")]],
        Field(min_length=1),
        OneOrMany(),
    ] = Field(default=list(_S.listen))
    public: Annotated[
        str, parsed_by(scalars.public), string_schema("HOST:PORT as people reach the relay", "relay.example.com:22")
    ] = _S.public
    workers: Annotated[
        int,
        parsed_by(_workers),
        WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": 64}]}),
    ] = _S.workers
    timezone: Annotated[
        str, text_parsed_by(lambda given: times.timezone(given).key), string_schema("IANA time zone", "Asia/Shanghai")
    ] = _S.timezone
    state: Annotated[
        str, text_parsed_by(_state), string_schema("directory of host keys and audit", "/var/lib/relay")
    ] = _S.state
    login: Annotated[str, choice("recorded", "strict"), WithJsonSchema({"enum": ["recorded", "strict"]})] = Field(
        default=_S.login, description="strict: the login name must be the person's"
    )
    node: Annotated[str, parsed_by(scalars.name), string_schema("this relay's name in the audit log", "relay")] = (
        _S.node
    )
    chacha: Annotated[str, choice("auto", "yes", "no"), WithJsonSchema({"enum": ["auto", "yes", "no"]})] = Field(
        default=_S.chacha, description="offer chacha20-poly1305; auto: only on machines without AES instructions"
    )
    metrics: Annotated[
        str,
        parsed_by(scalars.window),
        string_schema("ADDRESS:PORT, a path, or off", "off", "127.0.0.1:9422", "/run/relay/metrics.sock"),
    ] = Field(
        default=_S.metrics,
        description="where Prometheus and health checks find the relay: a loopback port or a Unix socket",
    )
    limits: LimitsEntry = LimitsEntry()
    penalties: PenaltiesEntry = PenaltiesEntry()
    audit: AuditEntry = AuditEntry()

    def settings(self) -> Settings:
        """The settings as a plain value for all processes."""
        return Settings(
            listen=tuple(self.listen),
            public=self.public,
            workers=self.workers,
            timezone=self.timezone,
            state=self.state,
            login=self.login,
            node=self.node,
            chacha=self.chacha,
            metrics=self.metrics,
            limits=Limits(**dict(self.limits)),
            penalties=PenaltySettings(
                **{**dict(self.penalties), "exempt": tuple(str(network) for network in self.penalties.exempt)}
            ),
            audit_keep_days=self.audit.keep,
            audit_max_size=self.audit.max_size,
            strangers_keep_days=self.audit.strangers,
            audit_seal_rows=self.audit.seal_rows,
            audit_seal_after=self.audit.seal_after,
            audit_heartbeat=self.audit.heartbeat,
            audit_anchors=self.audit.anchors,
        )


# the model of each section of relay.yaml, from which a fault takes the nearest known key
ENTRIES: dict[str, type[BaseModel]] = {"limits": LimitsEntry, "penalties": PenaltiesEntry, "audit": AuditEntry}

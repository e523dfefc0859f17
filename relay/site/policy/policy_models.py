"""What may stand in relay.yaml and in policies/*.yaml? The one source of validation, defaults and JSON Schema.

The models only say what one entry may hold; what entries mean together (unknown names, overlaps, clashes) is asked
in `relay.site.policy.compile`. Explicit null is refused wherever leaving a key out would mean something wider.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from relay.core.policy.model import Address, Network
from relay.core.settings import Limits, PenaltySettings, Settings
from relay.errors import InputRejected
from relay.site import locate, times
from relay.site.yaml import scalars


class _Nothing:
    """Stands for an explicit null, so that `until:` without a value never passes for a rule without end."""


NOTHING = _Nothing()
_NO_VALUE = {"what": "no value stands here", "cure": "write one, or remove the key"}


def _read(parse: Callable[[object], Any]) -> PlainValidator:
    """A validator from a function that raises InputRejected, keeping its words and its cure."""

    def validate(value: object) -> Any:
        if value is NOTHING:
            raise PydanticCustomError("site", "{what}", _NO_VALUE)
        try:
            return parse(value)
        except InputRejected as error:
            raise PydanticCustomError("site", "{what}", {"what": error.what, "cure": error.hint}) from None

    return PlainValidator(validate)


def _text(parse: Callable[[str], Any], cure: str = "") -> PlainValidator:
    return _read(lambda value: parse(scalars.text(value, cure)))


def _schema(description: str, *examples: object, **more: object) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "description": description, "examples": list(examples), **more})


class _OneOrMany:
    """A list, or one item without brackets; never empty, because an empty condition would mean anything."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        def wrap(value: object) -> object:
            if value is NOTHING:
                raise PydanticCustomError("site", "{what}", _NO_VALUE)
            return value if isinstance(value, list) else [value]

        return core_schema.no_info_before_validator_function(wrap, handler(source))

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> Any:
        many = handler(schema)
        return {"anyOf": [many["items"], many]}


def _choice(*allowed: str) -> PlainValidator:
    def parse(given: str) -> str:
        if given not in allowed:
            raise InputRejected(f"{given[:40]!r} is not one of the choices", f"write {' or '.join(allowed)}")
        return given

    return _text(parse, f"write {' or '.join(allowed)}")


def _duration(low: float, high: float) -> PlainValidator:
    def parse(given: str) -> float:
        seconds = times.duration(given)
        if not low <= seconds <= high:
            raise InputRejected(f"{given} is out of bounds", f"from {low:g}s to {high:g}s")
        return seconds

    return _text(parse, "write a number and a unit: 30s, 10m, 24h, 400d")


def _days_kept(given: str) -> int:
    seconds = times.duration(given)
    if seconds % 86400 or not 1 <= seconds // 86400 <= 36500:
        raise InputRejected(f"{given} is not a number of whole days", "write 400d; from 1d to 36500d")
    return int(seconds // 86400)


class _Count:
    """A whole number within bounds."""

    def __init__(self, low: int, high: int) -> None:
        self._low, self._high = low, high

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        return handler.generate_schema(Annotated[Any, _read(self._parse)])

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> Any:
        return {"type": "integer", "minimum": self._low, "maximum": self._high}

    def _parse(self, value: object) -> int:
        low, high = self._low, self._high
        if not isinstance(value, int) or isinstance(value, bool):
            raise InputRejected(f"{str(value)[:40]!r} is not a whole number", f"write a number from {low} to {high}")
        if not low <= value <= high:
            raise InputRejected(f"{str(value)[:20]} is out of bounds", f"from {low} to {high}")
        return value


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


def _size(low: int, high: int) -> PlainValidator:
    def parse(value: object) -> int:
        found = scalars.size(value)
        if not low <= found <= high:
            raise InputRejected(f"{value} is out of bounds", f"from {low} to {high} bytes")
        return found

    return _read(parse)


def _database(value: object) -> int:
    if value == "none":
        return 0
    found = scalars.size(value)
    if not 64 << 20 <= found <= 1 << 40:
        raise InputRejected(f"{value} is out of bounds", "write none, or from 64MiB to 1024GiB")
    return found


def _rate(value: object) -> int:
    if value == "none":
        return 0
    found = scalars.size(value)
    if not 64 << 10 <= found <= 1 << 40:
        raise InputRejected(f"{value} is out of bounds", "write none, or from 64KiB to 1024GiB a second")
    return found


Name = Annotated[str, _read(scalars.name), _schema("a name", "alice", pattern="^[a-z0-9][a-z0-9._-]{0,31}$")]
Place = Annotated[
    str, _read(scalars.place), _schema("a host's or zone's name", "office", pattern="^[a-z0-9][a-z0-9._-]{0,31}$")
]
AddressText = Annotated[Address, _read(scalars.address), _schema("an IPv4 or IPv6 address", "192.168.1.201")]
NetworkText = Annotated[Network, _read(scalars.network), _schema("a network, or one address", "192.168.1.0/24")]
InterfaceText = Annotated[
    str, _read(scalars.interface), _schema("an interface's name or a pattern with * and ?", "zt*", "wg0")
]
Ports = Annotated[
    tuple[int, int],
    _read(scalars.ports),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": 65535},
                {"type": "string", "pattern": "^[0-9]{1,5}( ?- ?[0-9]{1,5})?$"},
            ],
            "description": "a port or a range",
            "examples": [22, "8000-8100"],
        }
    ),
]
Port = Annotated[int, _read(scalars.port), WithJsonSchema({"type": "integer", "minimum": 1, "maximum": 65535})]
Text = Annotated[str, _read(scalars.text), WithJsonSchema({"type": "string"})]
MomentText = Annotated[
    times.TypedTime,
    _text(times.moment, "write 2026-12-31 or 2026-12-31T18:00"),
    _schema("a date (the whole day) or a time, in the site's time zone", "2026-12-31", "2026-12-31T18:00"),
]
DaysText = Annotated[
    frozenset[int], _text(times.days), _schema("a day or a range of days", "mon-fri", "sat", pattern="^[A-Za-z -]+$")
]
HoursText = Annotated[
    tuple[int, int],
    _text(times.hours, 'write "09:00-18:00"'),
    _schema("hours of the day; an end before its start is on the next day", "09:00-18:00"),
]
VerdictText = Annotated[Literal["allow", "deny"], _choice("allow", "deny"), WithJsonSchema({"enum": ["allow", "deny"]})]
_DURATION_SCHEMA = _schema("a duration with its unit", "30s", "10m", "24h", pattern="^([0-9.]+[smhdw])+$")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, arbitrary_types_allowed=True)


class ZoneEntry(_Strict):
    """A network reached by one interface."""

    networks: Annotated[list[NetworkText], Field(min_length=1), _OneOrMany()] = Field(
        description="what lies behind the interface", examples=[["192.168.1.0/24"]]
    )
    interface: InterfaceText = Field(description="exactly one interface must match", examples=["zt*"])
    gateway: AddressText | None = Field(
        default=None,
        description="the next hop the kernel must name for it; left out: any route",
        examples=["172.18.0.200"],
    )


class HostEntry(_Strict):
    """A name for an address in a zone."""

    address: AddressText = Field(examples=["192.168.1.201"])
    zone: Place = Field(examples=["office"])
    user: Annotated[str, _read(scalars.user), _schema("login name there, for client-config", "ubuntu")] = ""
    port: Port = Field(default=22, description="its sshd's port, for client-config")


class RuleEntry(_Strict):
    """One rule: nothing matches = deny; a matching deny wins; else a matching allow."""

    name: Annotated[str, _read(scalars.title), _schema("what the rule is for; it stands in the audit log")] = Field(
        examples=["ops reach the office by ssh"]
    )
    allow: Annotated[list[Name], Field(min_length=1), _OneOrMany()] | None = Field(
        default=None, description="persons and groups, or everyone", examples=[["ops"]]
    )
    deny: Annotated[list[Name], Field(min_length=1), _OneOrMany()] | None = Field(
        default=None, description="persons and groups, or everyone", examples=[["everyone"]]
    )
    except_: Annotated[list[Name], Field(min_length=1), _OneOrMany()] | None = Field(
        default=None, alias="except", description="persons and groups that a deny does not concern", examples=[["bob"]]
    )
    to: Annotated[list[Text], Field(min_length=1), _OneOrMany()] = Field(
        description="hosts, HOST.ZONE, zones, networks, addresses, or patterns over host names", examples=[["office"]]
    )
    ports: Annotated[list[Ports], Field(min_length=1), _OneOrMany()] | None = Field(
        default=None, description="ports and ranges; a deny without them concerns all ports", examples=[[22]]
    )
    from_: Annotated[list[NetworkText], Field(min_length=1), _OneOrMany()] | None = Field(
        default=None, alias="from", description="where the person connects from", examples=[["203.0.113.0/24"]]
    )
    until: MomentText | None = Field(default=None, description="the rule ends with this day, or at this time")
    days: Annotated[list[DaysText], Field(min_length=1), _OneOrMany()] | None = Field(
        default=None, examples=[["mon-fri"]]
    )
    hours: Annotated[list[HoursText], Field(min_length=1), _OneOrMany()] | None = Field(
        default=None, examples=[["09:00-18:00"]]
    )


class ExpectEntry(_Strict):
    """What a person must or must not reach; judged by `check` and before a policy is applied, as with a good key."""

    who: Name = Field(description="a person", examples=["alice"])
    to: Text = Field(description="a target as it is typed, with its port", examples=["remote:22"])
    verdict: VerdictText = Field(examples=["allow"])
    from_: AddressText | None = Field(default=None, alias="from", description="where the person connects from")
    at: MomentText | None = Field(default=None, description="when; left out: whatever the calendar says")


class PolicyFile(_Strict):
    """One of policies/*.yaml; all of them are merged, in no order."""

    zones: dict[Place, ZoneEntry] = {}
    hosts: dict[Place, HostEntry] = {}
    groups: dict[Name, list[Name]] = Field(default={}, examples=[{"ops": ["alice", "bob"]}])
    rules: list[RuleEntry] = []
    expect: list[ExpectEntry] = []


_L = Limits()


class LimitsEntry(_Strict):
    """Bounds; the defaults suit a team of hundreds."""

    login_grace: Annotated[float, _duration(1, 600), _DURATION_SCHEMA] = Field(
        default=_L.login_grace, description="from accept to proven key"
    )
    unauthenticated: Annotated[int, _Count(1, 100_000)] = Field(
        default=_L.unauthenticated, description="connections before log-in, in all"
    )
    unauthenticated_per_source: Annotated[int, _Count(1, 100_000)] = Field(
        default=_L.unauthenticated_per_source, description="the same, of one IPv4 address or IPv6 /64"
    )
    unauthenticated_per_network: Annotated[int, _Count(1, 100_000)] = Field(
        default=_L.unauthenticated_per_network, description="the same, of one /24 or /48"
    )
    handshakes: Annotated[int, _Count(1, 100_000)] = Field(
        default=_L.handshakes, description="key exchanges of newcomers per second; more wait in line"
    )
    handshakes_penalised: Annotated[int, _Count(1, 100_000)] = Field(
        default=_L.handshakes_penalised, description="of those, for all penalised sources together"
    )
    unknown_keys: Annotated[int, _Count(1, 1000)] = Field(
        default=_L.unknown_keys, description="offered keys that are not known"
    )
    connections_per_person: Annotated[int, _Count(1, 1_000_000)] = Field(
        default=_L.connections_per_person, description="logged in at once"
    )
    connections_per_key: Annotated[int, _Count(1, 1_000_000)] = Field(
        default=_L.connections_per_key, description="logged in at once"
    )
    forwards_per_connection: Annotated[int, _Count(1, 100_000)] = _L.forwards_per_connection
    forwards_per_person: Annotated[int, _Count(1, 1_000_000)] = _L.forwards_per_person
    forwards_per_key: Annotated[int, _Count(1, 1_000_000)] = _L.forwards_per_key
    forwards_per_target: Annotated[int, _Count(1, 1_000_000)] = _L.forwards_per_target
    keepalive_interval: Annotated[float, _duration(1, 3600), _DURATION_SCHEMA] = _L.keepalive_interval
    keepalive_count: Annotated[int, _Count(1, 100)] = _L.keepalive_count
    dials: Annotated[int, _Count(1, 100_000)] = Field(
        default=_L.dials, description="targets being dialled at once; more wait their turn"
    )
    dial_timeout: Annotated[float, _duration(0.5, 300), _DURATION_SCHEMA] = _L.dial_timeout
    row_timeout: Annotated[float, _duration(0.5, 300), _DURATION_SCHEMA] = Field(
        default=_L.row_timeout, description="a forward waits so long for its audit row, then is refused as busy"
    )
    drain: Annotated[float, _duration(0, 30 * 86400), _DURATION_SCHEMA] = Field(
        default=_L.drain, description="open forwards outlive a change of version so long"
    )
    stop: Annotated[float, _duration(0, 3600), _DURATION_SCHEMA] = Field(
        default=_L.stop, description="open forwards outlive a stop so long"
    )
    rsa_bits: Annotated[int, _Count(2048, 16384)] = Field(
        default=_L.rsa_bits, description="shorter RSA keys are refused"
    )
    buffer: Annotated[
        int, _size(64 << 10, 64 << 20), _schema("bytes with unit", "1MiB", pattern="^[0-9]+(B|KiB|MiB|GiB)$")
    ] = Field(default=_L.buffer, description="per connection, for a client that does not read")
    buffers: Annotated[
        int, _size(16 << 20, 1 << 40), _schema("bytes with unit", "2GiB", pattern="^[0-9]+(B|KiB|MiB|GiB)$")
    ] = Field(default=_L.buffers, description="of all connections together; more forwards get smaller windows")
    rate_per_person: Annotated[int, _read(_rate), _schema("bytes per second with unit, or none", "none", "20MiB")] = (
        Field(default=_L.rate_per_person, description="what one person's forwards may carry, both directions together")
    )
    scan_targets: Annotated[int, _Count(2, 1000)] = Field(
        default=_L.scan_targets, description="different denied targets of one key in a minute that are called a scan"
    )
    scan_freeze: Annotated[float, _duration(0, 30 * 86400), _DURATION_SCHEMA] = Field(
        default=_L.scan_freeze, description="a scan freezes its key so long; 0s: it is only recorded"
    )


_P = PenaltySettings()


class PenaltiesEntry(_Strict):
    """What a source earns for each connection that ends without a proven key, as sshd's PerSourcePenalties."""

    failed: Annotated[float, _duration(0, 3600), _DURATION_SCHEMA] = Field(
        default=_P.failed, description="keys were offered, and none was good"
    )
    silent: Annotated[float, _duration(0, 3600), _DURATION_SCHEMA] = Field(
        default=_P.silent, description="no key was offered"
    )
    timeout: Annotated[float, _duration(0, 3600), _DURATION_SCHEMA] = Field(
        default=_P.timeout, description="login_grace passed"
    )
    junk: Annotated[float, _duration(0, 3600), _DURATION_SCHEMA] = Field(
        default=_P.junk, description="what was said is no SSH"
    )
    begin: Annotated[float, _duration(0, 3600), _DURATION_SCHEMA] = Field(
        default=_P.begin, description="from this sum on a source is penalised, until all of it has run out"
    )
    most: Annotated[float, _duration(1, 86400), _DURATION_SCHEMA] = Field(
        default=_P.most, description="the sum grows no further"
    )
    lately: Annotated[float, _duration(0, 30 * 86400), _DURATION_SCHEMA] = Field(
        default=_P.lately, description="a source that proved a key so lately is never penalised"
    )
    sources: Annotated[int, _Count(16, 1_000_000)] = Field(
        default=_P.sources, description="remembered at once; the one that was quiet for longest is forgotten first"
    )
    exempt: Annotated[list[NetworkText], _OneOrMany()] = Field(
        default=[scalars.network(text) for text in _P.exempt],
        description="networks against which nothing is held; [] for none",
        examples=[["203.0.113.0/24"]],
    )


_S = Settings()


class AuditEntry(_Strict):
    """How long the audit database keeps what it holds, how it is sealed, and who else is told."""

    keep: Annotated[int, _text(_days_kept, "write 400d"), _schema("days", "400d")] = Field(
        default=_S.audit_keep_days, description="then rows move to archives, which are kept until they are discarded"
    )
    max_size: Annotated[int, _read(_database), _schema("bytes of the database, or none", "2GiB", "none")] = Field(
        default=_S.audit_max_size, description="the oldest rows move to archives before it is reached"
    )
    strangers: Annotated[int, _text(_days_kept, "write 30d"), _schema("days", "30d")] = _S.strangers_keep_days
    seal_rows: Annotated[int, _Count(1, 1_000_000)] = Field(
        default=_S.audit_seal_rows, description="a signed checkpoint after so many rows"
    )
    seal_after: Annotated[float, _duration(1, 3600), _DURATION_SCHEMA] = Field(
        default=_S.audit_seal_after, description="or so long after the first row that is not sealed"
    )
    heartbeat: Annotated[float, _duration(10, 86400), _DURATION_SCHEMA] = Field(
        default=_S.audit_heartbeat, description="or so long after the last one, though nothing happened"
    )
    anchors: Annotated[
        str, _read(scalars.anchors), _schema("a path, syslog, or off", "off", "syslog", "/var/log/relay-anchors")
    ] = Field(default=_S.audit_anchors, description="where the anchor of each checkpoint goes")
    export: Annotated[
        str,
        _read(scalars.export),
        _schema("a path that ends in .jsonl, stdout, or off", "off", "/var/log/relay/events.jsonl", "stdout"),
    ] = Field(default=_S.audit_export, description="where every event goes as a line of JSON")
    export_size: Annotated[
        int, _size(1 << 20, 1 << 40), _schema("bytes with unit", "100MiB", pattern="^[0-9]+(B|KiB|MiB|GiB)$")
    ] = Field(default=_S.audit_export_size, description="a new file is begun after so much")
    export_files: Annotated[int, _Count(1, 1000)] = Field(
        default=_S.audit_export_files, description="old files of the export that are kept"
    )


class SettingsFile(_Strict):
    """relay.yaml; every setting has a default, an empty file is a working server that reaches nothing."""

    listen: Annotated[
        list[Annotated[str, _read(scalars.listener), _schema("ADDRESS:PORT", "0.0.0.0:2222", "[::]:2222")]],
        Field(min_length=1),
        _OneOrMany(),
    ] = list(_S.listen)
    public: Annotated[
        str, _read(scalars.public), _schema("HOST:PORT as people reach the relay", "relay.example.com:22")
    ] = _S.public
    workers: Annotated[
        int,
        _read(_workers),
        WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": 64}]}),
    ] = _S.workers
    timezone: Annotated[
        str, _text(lambda given: times.timezone(given).key), _schema("IANA time zone", "Asia/Shanghai")
    ] = _S.timezone
    state: Annotated[str, _text(_state), _schema("directory of host keys and audit", "/var/lib/relay")] = _S.state
    login: Annotated[str, _choice("recorded", "strict"), WithJsonSchema({"enum": ["recorded", "strict"]})] = Field(
        default=_S.login, description="strict: the login name must be the person's"
    )
    node: Annotated[str, _read(scalars.name), _schema("this relay's name in the audit log", "relay")] = _S.node
    chacha: Annotated[str, _choice("auto", "yes", "no"), WithJsonSchema({"enum": ["auto", "yes", "no"]})] = Field(
        default=_S.chacha, description="offer chacha20-poly1305; auto: only on machines without AES instructions"
    )
    metrics: Annotated[
        str,
        _read(scalars.window),
        _schema("ADDRESS:PORT, a path, or off", "off", "127.0.0.1:9422", "/run/relay/metrics.sock"),
    ] = Field(
        default=_S.metrics,
        description="where Prometheus and health checks find the relay: a loopback port or a Unix socket",
    )
    limits: LimitsEntry = LimitsEntry()
    penalties: PenaltiesEntry = PenaltiesEntry()
    audit: AuditEntry = AuditEntry()

    def settings(self) -> Settings:
        """The plain value that every process sees."""
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
            audit_export=self.audit.export,
            audit_export_size=self.audit.export_size,
            audit_export_files=self.audit.export_files,
        )


# which model the mapping at a path is checked by, for the nearest known key
ENTRIES: dict[str, type[BaseModel]] = {
    "zones": ZoneEntry,
    "hosts": HostEntry,
    "rules": RuleEntry,
    "expect": ExpectEntry,
    "limits": LimitsEntry,
    "penalties": PenaltiesEntry,
    "audit": AuditEntry,
}

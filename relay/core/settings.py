"""The settings of relay.yaml as every process sees them: plain values, each with its default.

`relay.site` validates the document and makes this value; the serving processes read it from the compiled
snapshot and so need neither PyYAML nor pydantic.
"""

from dataclasses import dataclass


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

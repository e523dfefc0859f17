"""Events as a relay writes them, for the tests of store, review and command line."""

from collections.abc import Iterable

from relay.core.audit.event import Event, bounded
from relay.core.audit.hash_chain import GENESIS, Row, link
from relay.core.ids import Ids

NOON = 1_790_856_000_000_000  # 2026-10-01T12:00:00Z
ALICE = "SHA256:uNiVztksCsDhcc0u9e8BrmvJ8ZvjIaOZqvfP1UUv3kA"
BOB = "SHA256:2BZ6Pk4cUp0QrKXrbVvPjDyRKtS2tr0bJ1jUTkHUbxE"


class Relay:
    """Makes the events of one relay, one second apart, with ids as the relay makes them."""

    def __init__(self, start: int = NOON) -> None:
        self.now = start
        self._ids = Ids(1)

    def id(self) -> str:
        """A new id, a second later."""
        self.now += 1_000_000
        return self._ids.make(self.now)

    def connect(self, person: str = "alice", client: str = "203.0.113.7", **fields) -> dict:
        """The facts of a connection."""
        return {
            "connection": self.id(),
            "person": person,
            "login": person,
            "credential": "key",
            "fingerprint": BOB if person == "bob" else ALICE,
            "expires": None,
            "client": client,
            "client_port": 51234,
            "client_version": "SSH-2.0-OpenSSH_9.2p1",
            **fields,
        }

    def login(self, connection: dict) -> Event:
        """The row of a log-in."""
        return Event(self.id(), self.now, "login.succeeded", {**connection, "policy": "3f2a9c01b7de"})

    def opened(self, connection: dict, asked: str = "remote:22", address: str = "192.168.1.201", **fields) -> Event:
        """The opening row of a forward; its id is the forward's, as the worker does it."""
        forward = self.id()
        target = {
            "asked": asked,
            "zone": "office",
            "address": address,
            "port": int(asked.rpartition(":")[2]),
            "rule": "ops reach the office by ssh",
            "rule_at": "policies/main.yaml:7",
            "policy": "3f2a9c01b7de",
            "worker": "w1",
        }
        return Event(forward, self.now, "forward.opened", {**connection, "forward": forward, **target, **fields})

    def closed(self, opened: Event, reason: str = "client-closed", **fields) -> Event:
        """The closing row of a forward."""
        end = {"reason": reason, "sent": 1500, "received": 2_500_000, "duration": 61_000_000, "detail": ""}
        return Event(self.id(), self.now, "forward.closed", {**opened.fields, **end, **fields})

    def denied(self, connection: dict, asked: str = "recorder:22", reason: str = "deny-rule", **fields) -> Event:
        """The row of a denied forward."""
        facts = {"asked": asked, "reason": reason, "detail": "no", "policy": "3f2a9c01b7de"}
        return Event(self.id(), self.now, "forward.denied", {**connection, **facts, **fields})

    def refused(self, connection: dict, type: str = "session") -> Event:
        """The row of a refused request."""
        return Event(
            self.id(), self.now, "request.refused", {**connection, "kind": "channel", "type": type, "count": 1}
        )

    def gone(self, connection: dict) -> Event:
        """The row of a connection's end."""
        end = {"reason": "client-closed", "detail": "", "duration": 9_000_000, "forwards": 1}
        return Event(self.id(), self.now, "connection.closed", {**connection, **end})

    def event(self, name: str, **fields) -> Event:
        """Any other row."""
        return Event(self.id(), self.now, name, fields)

    def day(self) -> list[Event]:
        """One of everything: alice jumps and is refused twice, bob jumps and stays."""
        alice, bob = self.connect(), self.connect("bob", "2001:db8::7", client_version="SSH-2.0-PuTTY_Release_0.81")
        first, second = self.opened(alice), self.opened(bob, "192.168.1.50:443", "192.168.1.50")
        return [
            self.event("server.started", version="0.1.0", pid=7),
            self.event("site.applied", policy="3f2a9c01b7de", keys=2, by_uid=0),
            self.event("key.added", person="bob", fingerprint=BOB, by_uid=0, by_sudo="carol"),
            self.login(alice),
            first,
            self.login(bob),
            second,
            self.denied(alice),
            self.refused(alice),
            self.closed(first),
            self.gone(alice),
        ]


def chained(events: Iterable[Event]) -> list[Row]:
    """The rows that a log would hold of these events, without a log."""
    rows: list[Row] = []
    for seq, event in enumerate(map(bounded, events), 1):
        rows.append(link("relay", seq, rows[-1].hash if rows else GENESIS, event))
    return rows

"""Events of a busy relay's year, for benchmarks of the audit log.

200 people with a handful of addresses each, 500 hosts, a heavy few and many light ones, some denials; connections
carry one to ten forwards, which end after others have begun. The same seed gives the same year.
"""

import itertools
import random
from collections.abc import Iterator

from relay.core.audit.event import Event
from relay.core.ids import Ids

YEAR_US = 365 * 86_400_000_000
VERSIONS = ("OpenSSH_9.2p1 Debian-2+deb12u3", "OpenSSH_9.6p1 Ubuntu-3ubuntu13.5", "OpenSSH_9.9", "PuTTY_Release_0.81")
ENDS = ("client-closed",) * 90 + ("connection-lost",) * 6 + ("target-refused",) * 3 + ("target-silent",)
PEOPLE = 200
HOSTS = 500
GONE = "leaver"  # worked here in the first week of the year only
DENIED = 0.03  # of what is asked for
OFF_LIMITS = "192.168.1.50"  # many are refused there, two may
_OPEN = 40  # forwards at once


class Year:
    """`events()` gives the events of `forwards` forwards, spread over the year before `until` (UTC microseconds)."""

    def __init__(self, forwards: int, until: int, seed: int = 1) -> None:
        self._count = forwards
        self._chance = random.Random(seed)
        self._now = until - YEAR_US
        self._until = until
        self._begin = self._now
        self._step = YEAR_US / max(forwards, 1)
        self._ids = Ids(1)
        people = [f"person{number}" for number in range(PEOPLE)]
        self._crowd = [self._who(person) for person in people for _ in range(self._chance.randint(2, 8))]
        self._crowd += [self._who("ansible")] * (len(self._crowd) // 5)  # a job: every sixth connection is its
        self._hosts = [f"192.168.{number // 250 + 1}.{number % 250 + 1}" for number in range(HOSTS)]
        self._weights = list(itertools.accumulate(1 / (number + 3) for number in range(HOSTS)))
        self._leaver = self._who(GONE)

    def events(self) -> Iterator[list[Event]]:
        """Groups of events in the order in which a relay would store them."""
        done = 0
        waiting: list[Event] = []
        while done < self._count:
            connection = self._connect()
            group = [self._event("login.succeeded", {**connection, **self._place()})]
            for _ in range(min(self._chance.choice((1, 1, 1, 2, 3, 6)), self._count - done)):
                if self._chance.random() < DENIED:
                    group.append(self._denied(connection))
                group.append(self._opened(connection))
                waiting.append(group[-1])
                done += 1
                self._now += int(self._step * self._chance.uniform(0.2, 1.8))
            while len(waiting) > _OPEN:
                group.append(self._closed(waiting.pop(self._chance.randrange(len(waiting)))))
            end = {"reason": "client-closed", "detail": "", "duration": 9_000_000, "forwards": 1}
            group.append(self._event("connection.closed", {**connection, **end}))
            if self._chance.random() < 0.0005:
                group.append(self._event("zone.down", {"zone": "office", "reason": "route-missing", "detail": "none"}))
                group.append(self._event("zone.up", {"zone": "office", "duration": 61_000_000}))
            if self._chance.random() < 0.001:
                group.append(self._event("site.applied", {"policy": self._policy(), "keys": 250, "by_uid": 0}))
            yield group
        yield [self._closed(opened) for opened in waiting]

    def _who(self, person: str) -> dict[str, str | int | None]:
        network = self._chance.choice(("203.0.113", "198.51.100", "192.0.2", f"100.64.{self._chance.randrange(256)}"))
        return {
            "person": person,
            "login": person,
            "credential": "key",
            "fingerprint": "SHA256:" + (person * 8)[:43],
            "expires": None,
            "client": f"{network}.{self._chance.randrange(256)}",
            "client_version": f"SSH-2.0-{self._chance.choice(VERSIONS)}",
        }

    def _connect(self) -> dict[str, str | int | None]:
        first_week = self._now < self._begin + 7 * 86_400_000_000
        who = self._leaver if first_week and self._chance.random() < 0.05 else self._chance.choice(self._crowd)
        return {"connection": self._id(), **who, "client_port": self._chance.randrange(1024, 65536)}

    def _id(self) -> str:
        return self._ids.make(self._now)

    def _event(self, name: str, fields: dict[str, str | int | None]) -> Event:
        return Event(self._id(), self._now, name, fields)

    def _policy(self) -> str:
        return f"{int((self._now - self._begin) * 40 / YEAR_US):012x}"

    def _place(self) -> dict[str, str | int | None]:
        """The law and the worker of the moment: a policy for nine days, a worker for a week."""
        week = int((self._now - self._begin) * 52 / YEAR_US)
        return {"policy": self._policy(), "worker": f"w{1000 + week}-18f{week:x}-{self._chance.choice('12')}"}

    def _opened(self, connection: dict[str, str | int | None]) -> Event:
        number = self._chance.choices(range(HOSTS), cum_weights=self._weights)[0]
        forward, address = self._id(), self._hosts[number]
        fields = {
            **connection,
            "forward": forward,
            "asked": f"host{number}:22" if self._chance.random() < 0.8 else f"{address}:22",
            "zone": "office",
            "address": address,
            "port": 22,
            "rule": "ops reach the office by ssh",
            "rule_at": "policies/main.yaml:7",
            **self._place(),
        }
        return Event(forward, self._now, "forward.opened", fields)

    def _closed(self, opened: Event) -> Event:
        chance = self._chance
        end = {
            "reason": chance.choice(ENDS),
            "sent": int(chance.lognormvariate(9, 2)),
            "received": int(chance.lognormvariate(11, 3)),
            "duration": self._now - opened.time + chance.randrange(1_000_000),
            "detail": "",
        }
        return Event(self._id(), self._now, "forward.closed", {**opened.fields, **end})

    def _denied(self, connection: dict[str, str | int | None]) -> Event:
        off_limits = self._chance.random() < 0.3
        address = OFF_LIMITS if off_limits else f"192.168.9.{self._chance.randrange(256)}"
        fields = {
            **connection,
            "asked": f"{address}:22",
            "reason": "deny-rule" if off_limits else "unknown-target",
            "detail": "the recorder is off limits" if off_limits else f"{address} lies in no zone",
            **self._place(),
        }
        if off_limits:
            rule = {"rule": "the recorder is off limits", "rule_at": "policies/main.yaml:8"}
            fields |= {"zone": "office", "address": address, "port": 22, **rule}
        return self._event("forward.denied", fields)

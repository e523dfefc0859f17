"""Months in the life of a team, for the tests of what adds up: 30 people, 40 hosts, days, nights, mishaps."""

import math
import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from relay.core.audit.event import Event
from relay.core.ids import Ids
from relay.core.keys import keyring as keyrings
from relay.core.keys.authorized_keys import Key
from relay.core.keys.keyring import Keyring
from relay.site.policy import compiler

DAY = 86_400_000_000
HOUR = DAY // 24
SECOND = 1_000_000
NAMES = (
    *("alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy", "kim", "leo", "mallory"),
    *("nina", "oscar", "peggy", "quinn", "rupert", "sybil", "trent", "ursula", "victor", "wang-lei", "xu-min"),
    *("yang-fan", "zhang-wei", "chen-jie", "liu-yang", "zhao-lei", "huang-li"),
)
HOSTS = [
    *(f"web-{number:02d}" for number in range(1, 13)),
    *(f"db-{number:02d}" for number in range(1, 7)),
    *(f"build-{number:02d}" for number in range(1, 9)),
    *(f"gpu-{number:02d}" for number in range(1, 9)),
    *("git", "grafana", "remote", "nas", "printer", "scada-gw"),
]
VERSIONS = ("SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u5", "SSH-2.0-OpenSSH_9.9", "SSH-2.0-PuTTY_Release_0.81")
DENIALS = ("no-rule", "no-rule", "deny-rule", "key-expired", "unknown-target", "rule-hours")
ENDS = ("client-closed",) * 12 + ("target-closed",) * 4 + ("target-refused", "target-silent", "killed")


def fingerprint(person: str, number: int = 0) -> str:
    """A key of theirs."""
    return "SHA256:" + (f"{person.replace('-', '')}{number}x" * 43)[:43]


class Team:
    """Makes `forwards` forwards in the `days` days before `end`, and all that goes with them, in order of time."""

    def __init__(self, end: int, days: int = 60, forwards: int = 4000, seed: int = 1) -> None:
        self.chance = random.Random(seed)
        self.begin, self.end, self.days, self.count = end - days * DAY, end, days, forwards
        self.ids = Ids(1)
        self.rows: list[tuple[int, int, str, dict]] = []
        self.homes = {
            person: (f"203.0.113.{number}", f"198.51.{number}.{7 * number}") for number, person in enumerate(NAMES)
        }
        self.habits = {person: self.chance.sample(HOSTS[:-2], 5) for person in NAMES}

    def events(self) -> Iterator[Event]:
        """Everything, in order of time."""
        for _ in range(self.count):
            self.forward()
        self.mishaps()
        self.rows.sort(key=lambda row: row[:2])
        for at, _, name, fields in self.rows:
            yield Event(self.ids.make(at), at, name, fields)

    def add(self, time: int, name: str, **fields) -> None:
        """One row at this time."""
        self.rows.append((time, len(self.rows), name, fields))

    def connection(self, person: str, time: int, **fields) -> dict:
        """The facts of a connection of theirs."""
        client = self.homes[person][self.chance.random() < 0.2]
        number = NAMES.index(person)
        return {
            "connection": self.ids.make(time),
            "person": person,
            "login": "nologin_user" if number % 3 else person,
            "credential": "key",
            "fingerprint": fingerprint(person),
            "expires": None,
            "client": client,
            "client_port": self.chance.randrange(1024, 65536),
            "client_version": VERSIONS[min(number % 5, 2)],
            "worker": "w1",
            **fields,
        }

    def target(self, host: str, port: int = 22) -> dict:
        """The facts of a target."""
        return {
            "asked": f"{host}:{port}",
            "zone": self.zone(host),
            "address": self.address(host),
            "port": port,
            "rule": "ops reach the office by ssh" if port == 22 else "the web for everyone",
            "rule_at": "policies/office.yaml:9",
            "policy": "3f2a9c01b7de",
        }

    @staticmethod
    def zone(host: str) -> str:
        """The zone of a host."""
        return "plant" if host == "scada-gw" else "office"

    @staticmethod
    def address(host: str) -> str:
        """The address of a host."""
        return f"192.168.{7 if host == 'scada-gw' else 1}.{10 + HOSTS.index(host)}"

    def moment(self) -> int:
        """Some time: working hours in Shanghai mostly, fewer at the weekend."""
        while True:
            time = self.begin + self.chance.randrange(self.end - self.begin)
            hour, weekday = (time // HOUR + 8) % 24, (time // DAY + 3) % 7
            weight = 0.06 + math.exp(-((hour - 10.5) ** 2) / 5) + 0.8 * math.exp(-((hour - 15.5) ** 2) / 6)
            if self.chance.random() < min(weight, 1) * (0.15 if weekday > 4 else 1):
                return time

    def forward(self) -> None:
        """One jump, or one in twenty-five denied."""
        time, chance = self.moment(), self.chance
        person = NAMES[min(int(chance.expovariate(0.13)), len(NAMES) - 2)]
        host = chance.choice(self.habits[person]) if chance.random() < 0.93 else chance.choice(HOSTS[:-2])
        self.jump(time, person, host, 22 if chance.random() < 0.9 else 443)

    def jump(self, time: int, person: str, host: str, port: int = 22, **fields) -> None:
        """Log-in, forward and end of one jump."""
        chance = self.chance
        facts = self.connection(person, time, **fields)
        target = self.target(host, port)
        self.add(time, "login.succeeded", **facts)
        if chance.random() < 0.04:
            denied = {
                "asked": f"{host}:3306",
                "reason": chance.choice(DENIALS),
                "detail": "no",
                "policy": "3f2a9c01b7de",
            }
            self.add(time + SECOND // 5, "forward.denied", **facts, **denied)
            return
        opened = {**facts, **target, "forward": self.ids.make(time + SECOND // 10)}
        self.add(time + SECOND // 10, "forward.opened", **opened)
        duration = int(min(chance.lognormvariate(4.5, 2), 200_000) * SECOND)
        if time + duration >= self.end:
            return  # still open
        sent, received = (int(chance.lognormvariate(9, 2.5)) for _ in range(2))
        traffic = {"sent": sent, "received": received * 10, "duration": duration}
        self.add(time + duration, "forward.closed", **opened, **traffic, reason=chance.choice(ENDS), detail="")

    def mishaps(self) -> None:
        """What a reviewer should find in the last month."""
        end, by = self.end, {"by_uid": 0, "by_sudo": "root-wang"}
        new, newest = end - 5 * DAY, end - 2 * DAY - 11 * HOUR
        self.add(self.begin, "server.started", version="0.1.0", pid=812, policy="3f2a9c01b7de")
        self.add(
            new, "key.added", person="huang-li", fingerprint=fingerprint("huang-li"), file="keys/huang-li.pub", **by
        )
        for hour in range(4):
            self.jump(new + hour * HOUR, "huang-li", ("git", "build-01", "build-02", "gpu-03")[hour])
        self.jump(newest, "mallory", "scada-gw")  # never before
        abroad = {"client": "45.83.64.9", "client_version": "SSH-2.0-paramiko_3.4.0"}
        self.jump(newest + HOUR, "mallory", "nas", **abroad)
        scan = self.connection("mallory", newest + HOUR, **abroad)
        for number in range(60):
            self.add(
                newest + HOUR + number * SECOND // 3,
                "forward.denied",
                **scan,
                **{"asked": f"192.168.1.{number}:445", "reason": "no-rule", "detail": "no rule allows it"},
            )
        person = {"person": "mallory", "fingerprint": fingerprint("mallory"), "client": "45.83.64.9"}
        self.add(
            newest + HOUR + 20 * SECOND, "scan.seen", **person, count=60, detail="192.168.1.0:445 192.168.1.1:445 ..."
        )
        self.add(
            newest + 3 * HOUR, "key.revoked", person="mallory", fingerprint=fingerprint("mallory"), why="stolen", **by
        )
        for began, span, reason in (
            (20, 0.2, "interface-missing"),
            (11, 3.4, "route-missing"),
            (3, 0.05, "interface-down"),
        ):
            time = end - began * DAY + 7 * HOUR
            self.add(time, "zone.down", zone="office", reason=reason, detail="there is no interface zt*")
            self.add(time + int(span * HOUR), "zone.up", zone="office", duration=int(span * HOUR))
        for began, source, reason in ((9, "198.18.7.7", "no-key"), (4, "2001:db8:bad::/64", "unknown-key")):
            time = end - began * DAY
            self.add(time, "ban.begun", source=source, reason=reason, count=40, until=time // SECOND + 3600)
            self.add(time + HOUR, "ban.ended", source=source, reason="lapsed", count=40, refused=311)
        self.add(end - 15 * DAY, "site.applied", policy="3f2a9c01b7de", keys=31, **by)
        self.add(end - 14 * DAY, "site.rejected", keys=31, detail="policies/office.yaml:12: no such zone", **by)
        self.add(end - 6 * DAY, "server.stopped", version="0.1.0", pid=812)
        self.add(end - 6 * DAY + 2 * SECOND, "server.started", version="0.1.1", pid=977, policy="3f2a9c01b7de")
        refused = self.connection("peggy", end - 8 * DAY)
        self.add(end - 8 * DAY, "request.refused", **refused, kind="channel", type="session", count=3)


def site(path: Path, end: int) -> None:
    """The team's site at `path`, applied: every host and person, and some that nobody uses. `end` in microseconds."""
    hosts = [f"  {host}: {{address: {Team.address(host)}, zone: {Team.zone(host)}}}" for host in HOSTS]
    policy = f"""\
zones:
  office: {{networks: [192.168.1.0/24], interface: "zt*", gateway: 172.18.0.200}}
  plant: {{networks: [192.168.7.0/24], interface: "zt*", gateway: 172.18.0.200}}
hosts:
{chr(10).join(hosts)}
  retired-fax:
    address: 192.168.1.250
    zone: office
groups:
  ops: [{", ".join(NAMES)}]
rules:
  - {{name: ops reach the office by ssh, allow: [ops], to: [office, plant], ports: [22]}}
  - {{name: the web for everyone, allow: [everyone], to: [office], ports: [443]}}
  - name: the contractor of last year
    allow: [wendy]
    to: [nas]
    ports: [22]
    until: {datetime.fromtimestamp(end // SECOND, ZoneInfo("Asia/Shanghai")) + timedelta(days=4):%Y-%m-%d}
  - {{name: the fax is off limits, deny: [everyone], to: [retired-fax]}}
"""
    for directory in (path, path / "policies", path / "keys", path / "state", path / "state" / "applied"):
        directory.mkdir(mode=0o700, exist_ok=True)
    (path / "relay.yaml").write_text("timezone: Asia/Shanghai\n")
    (path / "policies" / "office.yaml").write_text(policy)
    for person in (*NAMES, "wendy"):
        (path / "keys" / f"{person}.pub").touch()
    compiled = compiler.load(path, now=end // SECOND)
    (path / "state" / "applied" / "current.jsonl").write_text("\n".join(compiler.lines(compiled)) + "\n")
    keys = [_key(person, 0, end) for person in NAMES if person != "mallory"] + [
        _key("wendy", 0, end),
        _key("alice", 1, end),
    ]
    dumped = keyrings.dump(Keyring({key.fingerprint: key for key in keys}))
    (path / "state" / "applied" / "keys.jsonl").write_text("\n".join(dumped) + "\n")


def _key(person: str, number: int, end: int) -> Key:
    ends = end // SECOND + 9 * 86400 if person == "bob" else None
    place = (f"keys/{person}.pub", number + 1)
    return Key(fingerprint(person, number), "ssh-ed25519", 256, "", b"", person, (), ends, file=place[0], line=place[1])

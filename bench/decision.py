"""Time of a decision, and of loading a new policy snapshot in a worker.

    .venv/bin/python bench/decision.py [--rules 10,1000,10000] [--decisions 20000]

For each number of rules (1,000 people, 1,000 hosts, a third of the rules with conditions): the time of one decision
from parsing the target to the verdict; the longest slice of loading a snapshot while the old one is in use, the
switch to it and the freeing of the old one. A decision should take under 50 us, a slice under 2 ms.
"""

import argparse
import gc
import platform
import random
import statistics
import sys
import time
from collections.abc import Iterable
from ipaddress import IPv4Network, ip_address, ip_network

from relay.core.keys.authorized_keys import Key
from relay.core.policy import policy, snapshot, target
from relay.core.policy.model import Host, Identity, Rule, TimeWindow, Zone
from relay.core.policy.policy import Policy

PEOPLE, HOSTS, GROUPS, ZONES = 1000, 1000, 50, 4
NOW = 1_800_000_000
OWN = frozenset({ip_address("1.1.1.1"), ip_address("172.18.0.10")})
clock = time.thread_time  # CPU time, so that other programs on the machine do not count
SLICE = 0.001  # a worker loads lines for one millisecond, then serves its forwards


def site(rules: int, seed: int = 1) -> Policy:
    """A policy of a large company, the same for the same seed."""
    dice = random.Random(seed)
    people = [f"person{n}" for n in range(PEOPLE)]
    groups = {f"group{n}": frozenset(dice.sample(people, 40)) for n in range(GROUPS)}
    zones = [Zone(f"zone{n}", (ip_network(f"10.{n}.0.0/16"),), f"zt{n}") for n in range(ZONES)]
    hosts = [Host(f"host{n}", f"zone{n % ZONES}", ip_address(_address(n))) for n in range(HOSTS)]
    return policy.build_policy(
        version="bench",
        zones=zones,
        hosts=hosts,
        groups=groups,
        rules=[_rule(dice, number, people, groups, zones, hosts) for number in range(rules)],
        listeners=[(None, 2222)],
        public="1.1.1.1:22",
        offsets=[(0, 28800)],
    )


def _address(host: int) -> str:
    return f"10.{host % ZONES}.{host // 250}.{host % 250 + 1}"


def _rule(  # noqa: PLR0917
    dice: random.Random,
    number: int,
    people: list[str],
    groups: dict[str, frozenset[str]],
    zones: list[Zone],
    hosts: list[Host],
) -> Rule:
    zone = dice.choice(zones)
    base = str(zone.networks[0].network_address).rsplit(".", 2)[0]
    kind = dice.random()
    if kind < 0.6:
        to = tuple((host.zone, ip_network(str(host.address))) for host in dice.sample(hosts, dice.randint(1, 5)))
    elif kind < 0.9:
        to = ((zone.name, IPv4Network(f"{base}.{dice.randint(0, 3)}.0/24")),)
    else:
        to = ((zone.name, zone.networks[0]),)
    subject = dice.random()
    persons = frozenset(dice.sample(people, 2)) if subject < 0.7 else dice.choice(list(groups.values()))
    allow = dice.random() < 0.95
    conditional = dice.random()
    return Rule(
        name=f"rule number {number}",
        allow=allow,
        persons=persons if subject < 0.98 else frozenset(),
        everyone=subject >= 0.98,
        excepted=frozenset() if allow else frozenset(dice.sample(people, 3)),
        to=to,
        ports=dice.choice([((22, 22),), ((22, 22), (80, 80), (443, 443)), ((1, 65535),), ((8000, 8999),)]),
        sources=(ip_network("203.0.113.0/24"), ip_network("198.51.100.0/24")) if conditional < 0.1 else (),
        until=NOW + dice.randint(-(10**6), 10**7) if 0.1 < conditional < 0.2 else None,
        windows=(TimeWindow(frozenset(range(5)), 540, 1080),) if 0.2 < conditional < 0.3 else (),
        file=f"policies/{number % 20}.yaml",
        line=number,
    )


def decisions(compiled: Policy, count: int, seed: int = 2) -> tuple[list[float], int]:
    """Seconds of each of `count` decisions on random people and targets, and the number allowed."""
    dice = random.Random(seed)
    times, allowed = [], 0
    for _ in range(count):
        person = f"person{dice.randrange(PEOPLE)}"
        key = Key("SHA256:k", "ssh-ed25519", 256, "", b"", person)
        identity = Identity(person, "SHA256:k", ip_address("203.0.113.9"))
        number = dice.randrange(HOSTS)
        asked = f"host{number}" if dice.random() < 0.5 else _address(number)
        port = dice.choice([22, 22, 443, 8080])
        start = clock()
        verdict = compiled.decide(identity, key, target.parse_target(asked, port), NOW, OWN)
        times.append(clock() - start)
        allowed += verdict.allowed
    return times, allowed


def load(lines: Iterable[str]) -> tuple[Policy, list[float]]:
    """The policy of these lines, and the time of each slice in which a worker would load it."""
    loader, slices = snapshot.SnapshotLoader(), []
    start = clock()
    for line in lines:
        loader.feed(line)
        now = clock()
        if now - start > SLICE:
            slices.append(now - start)
            start = clock()
    loaded = loader.finish()
    slices.append(clock() - start)
    return loaded, slices


def stall(lines: list[str]) -> tuple[int, float, float, float]:
    """Number of slices, the longest one, the switch with freeing of the old policy, and a full garbage collection."""
    worst, count, freed = 0.0, 0, 0.0
    current, _ = load(lines)
    gc.collect()
    gc.freeze()  # as a worker does when it is ready: modules and code are not walked again
    for _ in range(5):
        fresh, slices = load(lines)
        start = clock()
        current = fresh
        del fresh
        freed = max(freed, clock() - start)
        worst, count = max(worst, *slices), len(slices)
    start = clock()
    gc.collect()
    collected = clock() - start
    assert current.version
    return count, worst, freed, collected


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rules", default="10,1000,10000", help="numbers of rules, separated by commas")
    parser.add_argument("--decisions", type=int, default=20000)
    options = parser.parse_args(arguments)
    print(f"python {platform.python_version()} on {platform.machine()}; {PEOPLE} people, {HOSTS} hosts; times in us")
    print(" rules | median   p99  p99.9 | allowed | build ms | snapshot KiB | slices  longest  switch+free  gc")
    for rules in (int(text) for text in options.rules.split(",")):
        start = clock()
        compiled = site(rules)
        built = clock() - start
        times, allowed = decisions(compiled, options.decisions)
        cuts = statistics.quantiles(times, n=1000)
        lines = list(snapshot.dump(compiled))
        del compiled
        count, worst, freed, collected = stall(lines)
        print(
            f"{rules:6} | {cuts[499] * 1e6:6.1f} {cuts[989] * 1e6:5.1f} {cuts[998] * 1e6:6.1f} "
            f"| {allowed / options.decisions:6.0%}  | {built * 1e3:8.0f} | {sum(map(len, lines)) >> 10:12} "
            f"| {count:6} {worst * 1e6:8.0f} {freed * 1e6:12.0f} {collected * 1e6:6.0f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())

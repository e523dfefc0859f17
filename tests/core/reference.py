"""The policy language in thirty slow lines, which the compiled policy must agree with; and random policies to compare.

Written from DESIGN.md and the docstrings of relay.core.policy.model, without a look at how the real one does it.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network

from hypothesis import strategies as st

from relay.core.policy.model import Address, Destination, Rule, TimeWindow, Zone


def decide(rules: Sequence[Rule], person: str, source: Address | None, to: Destination, at: datetime) -> Rule | None:
    """The rule that decides; None is a denial for want of one. `at` is on the site's clock."""
    fitting = [rule for rule in rules if matches(rule, person, source, to, at)]
    denying = [rule for rule in fitting if not rule.allow]
    return min(denying or fitting, key=lambda rule: (rule.file, rule.line, rule.name), default=None)


def matches(rule: Rule, person: str, source: Address | None, to: Destination, at: datetime) -> bool:
    return (
        (rule.everyone or person in rule.persons)
        and person not in rule.excepted
        and any(zone == to.zone and to.address in network for zone, network in rule.to)
        and any(low <= to.port <= high for low, high in rule.ports)
        and (rule.until is None or at.timestamp() < rule.until)
        and (not rule.sources or any(source is not None and source in network for network in rule.sources))
        and (not rule.windows or any(holds(window, at) for window in rule.windows))
    )


def holds(window: TimeWindow, at: datetime) -> bool:
    """The window began on a day of its own, today or yesterday, and is not over."""
    for midnight in (
        at.replace(hour=0, minute=0, second=0),
        at.replace(hour=0, minute=0, second=0) - timedelta(days=1),
    ):
        length = window.end - window.start + (0 if window.end > window.start else 1440)
        begin = midnight + timedelta(minutes=window.start)
        if midnight.weekday() in window.days and begin <= at < begin + timedelta(minutes=length):
            return True
    return False


PERSONS = ("alice", "bob", "carol", "dave")
ZONES = (
    Zone("office", (ip_network("192.168.1.0/24"), ip_network("fd00::/64")), "zt*"),
    Zone("plant", (ip_network("192.168.1.0/24"), ip_network("10.0.0.0/8")), "wg0"),
)
ADDRESSES = tuple(map(ip_address, ("192.168.1.1", "192.168.1.2", "192.168.1.129", "10.1.2.3", "fd00::1", "fd00::f1")))
NETWORKS = tuple(
    map(
        ip_network,
        ("192.168.1.1/32", "192.168.1.0/25", "192.168.1.0/24", "10.0.0.0/8", "0.0.0.0/0", "fd00::1/128", "fd00::/124"),
    )
)
SOURCES = tuple(map(ip_address, ("203.0.113.9", "203.0.113.200", "2001:db8::1")))
SOURCE_NETWORKS = tuple(map(ip_network, ("203.0.113.0/25", "203.0.113.9/32", "2001:db8::/32", "0.0.0.0/0")))
PORTS = (1, 21, 22, 23, 80, 8080, 65535)
START = int(datetime(2026, 11, 20, tzinfo=UTC).timestamp())  # a Friday

ports = st.sampled_from(PORTS)
times = st.integers(START, START + 5 * 86400)
windows = st.builds(
    TimeWindow, st.frozensets(st.integers(0, 6)), st.integers(0, 1439), st.sampled_from((0, 1, 300, 720, 1439, 1440))
)
people = st.frozensets(st.sampled_from(PERSONS), max_size=3)
rules = st.builds(
    Rule,
    name=st.just(""),
    allow=st.integers(0, 3).map(bool),
    persons=people,
    everyone=st.integers(0, 3).map(lambda n: n == 0),
    excepted=st.frozensets(st.sampled_from(PERSONS), max_size=1),
    to=st.lists(st.tuples(st.sampled_from(("office", "plant")), st.sampled_from(NETWORKS)), max_size=3).map(tuple),
    ports=st.lists(st.tuples(ports, ports).map(lambda pair: (min(pair), max(pair))), max_size=3).map(tuple),
    sources=st.one_of(st.just(()), st.lists(st.sampled_from(SOURCE_NETWORKS), max_size=2).map(tuple)),
    until=st.one_of(st.none(), times),
    windows=st.one_of(st.just(()), st.lists(windows, max_size=2).map(tuple)),
    file=st.sampled_from(("policies/a.yaml", "policies/b.yaml")),
    line=st.integers(1, 5),
)
destinations = st.builds(Destination, st.sampled_from(("office", "plant")), st.sampled_from(ADDRESSES), ports)

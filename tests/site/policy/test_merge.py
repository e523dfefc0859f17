"""What the policy files together say, and where they contradict each other."""

from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from relay.core.policy.model import Host, Rule, TimeWindow
from relay.site.policy import compiler
from relay.site.policy.compiler import Examination

NOW = 1_764_000_000  # 2025-11-24 16:00 UTC
ZONES = """
zones:
  office: {networks: [192.168.1.0/24], interface: "zt*", gateway: 172.18.0.200}
  plant: {networks: [192.168.1.0/24, "fd00:1::/64"], interface: wg0}
hosts:
  remote: {address: 192.168.1.201, zone: office}
  db-1: {address: 192.168.1.11, zone: plant}
  db-2: {address: "fd00:1::2", zone: plant, user: postgres, port: 2022}
groups:
  ops: [alice, bob]
"""


def judged(*texts: str, settings: str = "", persons: tuple[str, ...] = ("alice", "bob", "carol")) -> Examination:
    """The examination of policies/a.yaml, policies/b.yaml ... with these texts."""
    contents = {f"policies/{chr(97 + number)}.yaml": text.encode() for number, text in enumerate(texts)}
    return compiler.compile_documents({"relay.yaml": settings.encode(), **contents}, frozenset(persons), now=NOW)


def faults(*texts: str, settings: str = "") -> list[str]:
    return [str(fault) for fault in judged(*texts, settings=settings).faults]


def rule(body: str, settings: str = "") -> Rule:
    """The one rule of a site with ZONES."""
    found = judged(ZONES, f"rules:\n  - {{name: x, {body}}}\n", settings=settings)
    assert found.compiled is not None, found.faults
    return next(iter(found.compiled.policy.rules()))


def test_empty_site_reaches_nothing() -> None:
    """No files at all, and files that are empty or hold empty sections, are a valid site without rules."""
    for texts in ((), ("",), ("rules:\nzones:\nexpect:\n",)):
        found = judged(*texts)
        assert found.compiled is not None
        assert list(found.compiled.policy.rules()) == []


def test_zones_and_hosts() -> None:
    """Zones and hosts come out as they were written; the same prefix on two interfaces is no contradiction."""
    found = judged(ZONES)
    assert found.compiled is not None
    inventory = found.compiled.policy.inventory
    assert inventory.zones["office"].gateway == ip_address("172.18.0.200")
    assert inventory.hosts["db-2.plant"] == Host("db-2", "plant", ip_address("fd00:1::2"), "postgres", 2022)


def test_files_are_merged_in_no_order() -> None:
    """A rule may stand before what it names, in whatever file."""
    rules = "rules:\n  - {name: x, allow: ops, to: office, ports: 22}\n"
    assert faults(rules, ZONES) == faults(ZONES, rules) == []


OFFICE, PLANT = ("office", ip_network("192.168.1.0/24")), ("plant", ip_network("192.168.1.0/24"))


@pytest.mark.parametrize(
    ("to", "pairs"),
    [
        ("remote", {("office", ip_network("192.168.1.201/32"))}),
        ("remote.office", {("office", ip_network("192.168.1.201/32"))}),
        ("office", {OFFICE}),
        ("plant", {PLANT, ("plant", ip_network("fd00:1::/64"))}),
        ("192.168.1.0/28.plant", {("plant", ip_network("192.168.1.0/28"))}),
        ("192.168.1.7.office", {("office", ip_network("192.168.1.7/32"))}),
        ("fd00:1::/120", {("plant", ip_network("fd00:1::/120"))}),
        ('"fd00:1::9"', {("plant", ip_network("fd00:1::9/128"))}),
        ('"fd00:1::9.plant"', {("plant", ip_network("fd00:1::9/128"))}),
        ('"db-*"', {("plant", ip_network("192.168.1.11/32")), ("plant", ip_network("fd00:1::2/128"))}),
        ('"db-?.plant"', {("plant", ip_network("192.168.1.11/32")), ("plant", ip_network("fd00:1::2/128"))}),
        ('"*.office"', {("office", ip_network("192.168.1.201/32"))}),
        ('"x*"', set()),
        ("[remote, office]", {OFFICE, ("office", ip_network("192.168.1.201/32"))}),
    ],
)
def test_to(to: str, pairs: set[object]) -> None:
    """`to` is a host, HOST.ZONE, a zone, a network, an address, or a pattern over host names."""
    assert set(rule(f"allow: ops, ports: 22, to: {to}").to) == pairs


@pytest.mark.parametrize(
    ("to", "what"),
    [
        ("remot", "did you mean remote?"),
        ("plnt", "did you mean plant?"),
        ("192.168.1.0/28", "write 192.168.1.0/28.office or 192.168.1.0/28.plant"),
        ("192.168.1.7", "write 192.168.1.7/32.office or 192.168.1.7/32.plant"),
        ("192.168.0.0/23", "not wholly in any zone"),
        ("192.168.0.0/23.office", "not wholly in the zone office"),
        ("10.0.0.1", "not wholly in any zone"),
        ("10.0.0.0/8.lab", "no zone 'lab'"),
        ("192.168.1.1/24", "has host bits set"),
        ('"192.168.1.*"', "write a network like"),
        ('"remote:22"', "list ports under `ports`"),
        ('"[db]*"', "is not a pattern"),
        ('"DB*"', "is not a pattern"),
        ("10.1", "is not text"),
        ("remote@office", "NAME.ZONE"),
        ("[]", "an empty list"),
        ("[[office]]", "a list where text is expected"),
    ],
)
def test_to_refused(to: str, what: str) -> None:
    """What `to` cannot mean, or could mean twice, is a fault at its place with what to write."""
    found = faults(ZONES, f"rules:\n  - name: x\n    allow: ops\n    ports: 22\n    to: {to}\n")
    assert len(found) == 1
    assert found[0].startswith("policies/b.yaml:5: ")
    assert what in found[0]


def test_ambiguous_host() -> None:
    """A host name in two zones is no fault, but a rule must say which one it means."""
    twice = "hosts:\n  remote: {address: 192.168.1.9, zone: plant}\n"
    assert faults(ZONES, twice) == []
    found = faults(ZONES, twice, "rules:\n  - {name: x, allow: ops, to: remote, ports: 22}\n")
    assert "remote.office or remote.plant" in found[0]


def test_rule_values() -> None:
    """Groups become persons, ports ranges, `until` an instant in the site's zone, days and hours windows."""
    found = rule(
        'allow: [ops, carol], to: office, ports: [22, "8000-8100"], from: [203.0.113.0/24, "2001:db8::1"], '
        'until: 2026-12-31, days: [mon-wed, sat], hours: ["09:00-12:00", "22:00-06:00"]',
        settings="timezone: Asia/Shanghai",
    )
    assert found.allow
    assert found.persons == {"alice", "bob", "carol"}
    assert found.ports == ((22, 22), (8000, 8100))
    assert found.sources == (ip_network("203.0.113.0/24"), ip_network("2001:db8::1/128"))
    assert found.until == 1_798_732_800  # 2027-01-01 00:00 +08:00
    days = frozenset({0, 1, 2, 5})
    assert found.windows == (TimeWindow(days, 540, 720), TimeWindow(days, 1320, 360))
    assert (found.file, found.line) == ("policies/b.yaml", 2)


def test_deny_without_ports_is_about_all_ports() -> None:
    """A deny may leave out `ports`: it then denies every port, which never widens."""
    found = rule("deny: everyone, except: bob, to: office")
    assert (found.allow, found.everyone, found.excepted, found.ports) == (False, True, {"bob"}, ((1, 65535),))


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("allow: ops, to: office", "names no `ports`"),
        ("allow: ops, ports: 22", "has no `to`"),
        ("to: office, ports: 22", "neither allows nor denies"),
        ("allow: ops, deny: carol, to: office, ports: 22", "both allows and denies"),
        ("allow: ops, except: bob, to: office, ports: 22", "`except` without `deny`"),
        ("deny: ops, except: everyone, to: office", "has no effect"),
        ("allow: [], to: office, ports: 22", "allow: an empty list"),
        ("allow: , to: office, ports: 22", "allow: there is no value"),
        ("allow: ops, to: office, ports: []", "ports: an empty list"),
        ("allow: ops, to: office, ports: 22, from: []", "from: an empty list"),
        ("allow: ops, to: office, ports: 22, from: ", "from: there is no value"),
        ("allow: ops, to: office, ports: 22, until: ", "until: there is no value"),
        ("allow: ops, to: office, ports: 22, days: ", "days: there is no value"),
        ("allow: ops, to: office, ports: 22, hours: [~]", "hours: there is no value"),
        ("allow: ops, to: office, ports: 22, until: 2026", "until: 2026 is not text"),
        ("allow: ops, to: office, prots: 22", "did you mean 'ports'?"),
        ("allow: 7, to: office, ports: 22", 'put it in quotes: "7"'),
    ],
)
def test_rule_refused(body: str, what: str) -> None:
    """A missing or empty setting never widens a rule: it is a fault."""
    assert any(what in fault for fault in faults(ZONES, f"rules:\n  - {{name: x, {body}}}\n"))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("zones: {a: {networks: [10.0.0.0/8]}}", "has no `interface`; add `interface: zt*`"),
        ("zones: {a: {interface: wg1}}", "has no `networks`"),
        ("zones: {a: {networks: [], interface: wg1}}", "an empty list"),
        ("zones: {a: {networks: [127.0.0.0/8], interface: wg1}}", "only a zone with `interface: lo` may"),
        ("zones: {a: {networks: [10.0.0.0/8], interface: lo}}", "not loopback"),
        ("zones: {a: {networks: [0.0.0.0/0], interface: wg1}}", "holds loopback addresses"),
        ("zones: {a: {networks: [224.0.0.0/8], interface: wg1}}", "holds multicast addresses"),
        ("zones: {a: {networks: [169.254.0.0/16], interface: wg1}}", "holds link-local addresses"),
        ("zones: {a: {networks: ['fd00:9::/64'], interface: wg1, gateway: 10.0.0.1}}", "not of the family"),
        ("zones: {a: {networks: [10.0.0.0/8], interface: wg1, gateway: }}", "there is no value"),
        ("zones: {office: {networks: [10.0.0.0/8], interface: wg1}}", "already names a zone in policies/a.yaml:3"),
        ("zones: {remote: {networks: [10.0.0.0/8], interface: wg1}}", "already names a host in policies/a.yaml:6"),
        ("zones: {a: {networks: [192.168.1.0/25], interface: wg0}}", "overlaps 192.168.1.0/24 of the zone plant"),
        ("zones: {a: {networks: [192.168.0.0/16], interface: zt5}}", "'zt5' and 'zt*' may be one interface"),
        ("zones: {'10': {networks: [10.0.0.0/8], interface: wg1}}", "could be taken for an address"),
        ("zones: {a: }", "nothing where `key: value` pairs are expected"),
        ("hosts: {x: {address: 10.0.0.1, zone: office}}", "is not in the zone office; that zone holds 192.168.1.0/24"),
        ("hosts: {x: {address: 192.168.1.1, zone: ofice}}", "did you mean office?"),
        ("hosts: {x: {address: 192.168.1.1}}", "has no `zone`"),
        ("hosts: {remote: {address: 192.168.1.1, zone: office}}", "already names a host in policies/a.yaml:6"),
        ("hosts: {office: {address: 192.168.1.1, zone: office}}", "'office' already names a zone"),
        ("hosts: {db-1.plant: {address: 192.168.1.1, zone: office}}", "'db-1.plant' already names a host"),
        ("hosts: {192.168.1.1: {address: 192.168.1.1, zone: office}}", "could be taken for an address"),
        ("hosts: {Remote: {address: 192.168.1.1, zone: office}}", "write remote"),
        ("groups: {ops: [carol]}", "the group ops is defined a second time; the first is policies/a.yaml:10"),
        ("groups: {carol: [bob]}", "carol is a person too (keys/carol.pub)"),
        ("groups: {everyone: [bob]}", "the name everyone is reserved"),
        ("groups: {x: [ops]}", "the group x holds ops, which is a group"),
        ("groups: {x: [everyone]}", "the group x holds everyone"),
        ("groups: {x: alice}", "text where a list is expected"),
        ("rules: {x: y}", "a mapping where a list is expected"),
        ("rules: [x]", "the rule: text where `key: value` pairs are expected"),
        ("- x", "a list where settings are expected"),
        ("zone: {}", "did you mean 'zones'?"),
        ("listen: []", "it belongs in relay.yaml"),
        ("expect: [{who: ops, to: 'remote:22', verdict: deny}]", "ops is not a person"),
        ("expect: [{who: alice, to: remote, verdict: deny}]", "does not end in a port"),
        ("expect: [{who: alice, to: 'remote:22', verdict: no}]", "write allow or deny"),
        ("expect: [{who: alice, to: 'remote:22'}]", "the expectation has no `verdict`"),
        ("expect: [{who: alice, to: 'remote:22', verdict: deny, at: noon}]", "not a date or time"),
        ("expect: [{who: alice, to: 'remote:22', verdict: deny, from: 10.0.0.0/8}]", "not an address"),
    ],
)  # fmt: skip
def test_refused(text: str, what: str) -> None:
    """Each contradiction and each unknown name is one fault, in its own line, naming the cure or the other place."""
    found = faults(ZONES, f"\n{text}\n")
    assert len(found) == 1, found
    assert found[0].startswith("policies/b.yaml:2: ")
    assert what in found[0]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("listn: x", "did you mean 'listen'?"),
        ("rules: []", "it belongs in a file of policies/"),
        ("listen: 2222", "write one like"),
        ("listen: []", "an empty list"),
        ("listen: ['0.0.0.0:22', '0.0.0.0:22']", "is listed twice"),
        ("workers: 0", "from 1 to 64"),
        ("workers: 'yes'", "write auto"),
        ("timezone: Asia/Shanghi", "did you mean Asia/Shanghai?"),
        ("timezone:", "there is no value"),
        ("login: no", "write recorded or strict"),
        ("state: /var/../etc", "without .."),
        ("limits: {login_grace: 30}", "has no unit"),
        ("limits: {login_grace: 0s}", "out of bounds"),
        ("limits: {unauthenticated: -1}", "out of bounds"),
        ("limits: {rsa_bits: 1024}", "out of bounds"),
        ("limits: {buffer: 1KiB}", "out of bounds"),
        ("limits: {logingrace: 30s}", "did you mean 'login_grace'?"),
        ("limits: 7", "where `key: value` pairs are expected"),
        ("audit: {keep: 30m}", "whole days"),
        ("chacha: true", "write auto or yes or no"),
    ],
)
def test_settings_refused(text: str, what: str) -> None:
    """A setting that is unknown, out of bounds or of the wrong kind is a fault with its line."""
    found = faults(settings=f"\n{text}\n")
    assert len(found) == 1, found
    assert found[0].startswith("relay.yaml:2: ")
    assert what in found[0]


def test_all_settings() -> None:
    """Every setting can be given, and the value is what it says."""
    text = (
        "listen: '127.0.0.1:0'\npublic: relay.example.com\nworkers: 2\ntimezone: Asia/Shanghai\nlogin: strict\n"
        "node: hk\nchacha: no\nlimits: {login_grace: 1m, forwards_per_person: 7, buffer: 2MiB, stop: 0s}\n"
        "audit: {keep: 1d}\n"
    )
    settings = judged(settings=text).settings
    assert (settings.listen, settings.public, settings.workers) == (("127.0.0.1:0",), "relay.example.com:22", 2)
    assert (settings.login, settings.node, settings.chacha, settings.audit_keep_days) == ("strict", "hk", "no", 1)
    assert (settings.limits.login_grace, settings.limits.forwards_per_person, settings.limits.stop) == (60.0, 7, 0.0)
    assert (settings.limits.buffer, settings.limits.dial_timeout) == (2 << 20, 10.0)


def test_every_fault_at_once() -> None:
    """Faults of an entry hide neither faults of other entries and files, nor those of its rules."""
    found = faults(
        ZONES,
        "rules:\n  - {name: x, alow: ops, to: nowhere}\n  - {name: y, allow: ops, to: plnt, ports: [0, 22, x]}\n"
        "foo: 1\n",
        "hosts:\n  Bad: {address: 1, zone: office}\n",
        settings="workers: x\n",
    )
    expected = ["alow", "'nowhere'", "'plnt'", "no port 0", "'x' is not a port", "foo", "Bad", "address: 1", "workers"]
    assert all(any(word in fault for fault in found) for word in expected)
    assert found == sorted(found, key=lambda fault: fault.split(":")[0])


def test_no_faults_that_follow_from_others() -> None:
    """What names a faulty entry, or may stand in a file that could not be read, is not called unknown."""
    broken = "zones:\n  lab: {networks: [10.0.0.0/8], interfac: wg1}\nhosts:\n  x: {address: 10.0.0.1, zone: lab}\n"
    rules = "rules:\n  - {name: y, allow: ops, to: [lab, x], ports: 22}\n"
    assert len(faults(ZONES, broken, rules)) == 2  # the unknown key, the missing one
    assert len(faults(ZONES, "zones: [\n", rules)) == 1


def test_persons_without_keys_are_warnings() -> None:
    """A name that is neither a person with a key nor a group is warned of once, naming the nearest."""
    text = "rules:\n  - {name: x, allow: [alcie, ops], to: office, ports: 22}\n  - {name: y, deny: alcie, to: office}\n"
    found = judged(ZONES, text)
    assert found.compiled is not None
    assert len(found.warnings) == 1
    assert "policies/b.yaml:2: alcie has no key" in str(found.warnings[0])
    assert "did you mean alice?" in found.warnings[0].cure


@pytest.mark.parametrize(
    ("until", "word"), [("2025-11-23", "expired"), ("2025-12-01", "expires in 8 days"), ("2025-12-24", "")]
)
def test_lapsing_rules_are_warnings(until: str, word: str) -> None:
    """A rule that lapsed, or expires within 14 days, is a warning and never a fault: the calendar breaks no site."""
    found = judged(ZONES, f"rules:\n  - {{name: x, allow: ops, to: office, ports: 22, until: {until}}}\n")
    assert found.compiled is not None
    assert [word in warning.what for warning in found.warnings] == ([True] if word else [])


def test_thousand_zones(tmp_path: Path) -> None:
    """A thousand zones and 5,000 rules are judged in a few seconds, not in minutes."""
    zones = "".join(
        f"  z{n}: {{networks: [10.{n // 250}.{n % 250}.0/24], interface: wg{n % 8}}}\n" for n in range(1000)
    )
    rules = "".join(
        f"  - {{name: r{n}, allow: [p{n % 99}], to: [z{n % 1000}], ports: [{n % 99 + 1}]}}\n" for n in range(5000)
    )
    found = judged(f"zones:\n{zones}rules:\n{rules}", persons=tuple(f"p{n}" for n in range(99)))
    assert found.compiled is not None

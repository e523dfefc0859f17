"""relay.core.policy.snapshot: a compiled policy as lines, wholly or not at all."""

import gc
import hashlib
import json
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.policy import snapshot
from relay.core.policy.model import Host, Rule, TimeWindow, Zone
from relay.core.policy.policy import Policy
from relay.core.policy.rule_index import RuleIndex
from relay.core.policy.snapshot import SnapshotLoader, dump
from relay.core.policy.target import parse_spec
from relay.errors import InputRejected
from tests.core import reference
from tests.core.policy.test_policy import CONTRACTOR, HERE, HOSTS, NOW, OFFICE, OPS, PLANT, RECORDER, build

SIX = Zone("six", (ip_network("fd00::/64"),), "wg1", ip_address("fd00::ffff"))
SIX_HOST = Host("six-host", "six", ip_address("fd00::1"), "root", 2022)
SIX_RULE = replace(
    OPS,
    name='a "quoted" näme\n',
    to=(("six", ip_network("fd00::/64")), ("office", ip_network("192.168.1.201/32"))),
    sources=(ip_network("2001:db8::/32"), ip_network("203.0.113.9/32")),
    windows=(TimeWindow(frozenset({6}), 1320, 360), TimeWindow()),
    until=NOW,
)
FULL = build(
    *(OPS, RECORDER, CONTRACTOR, SIX_RULE),
    zones=(OFFICE, PLANT, SIX),
    hosts=(*HOSTS, SIX_HOST),
    groups={"ops": frozenset({"alice", "bob"}), "nobody": frozenset()},
    listeners=[(None, 2222), (ip_address("fd00::9"), 22)],
    public="relay.example.com:22",
    offsets=[(0, 0), (1000, 3600)],
)
LINES = tuple(dump(FULL))


def load(lines: list[str] | tuple[str, ...]) -> Policy:
    loader = SnapshotLoader()
    for line in lines:
        loader.feed(line)
    return loader.finish()


def sealed(lines: list[str]) -> list[str]:
    """The lines with an end that fits: what is wrong must then be found by what the lines say."""
    digest = hashlib.sha256("".join(line + "\n" for line in lines).encode()).hexdigest()
    return [*lines, json.dumps(["end", len(lines), digest])]


def test_a_policy_survives_the_way() -> None:
    """What was dumped and loaded is dumped the same again, and says the same."""
    loaded = load([line + "\n" for line in LINES])
    assert tuple(dump(loaded)) == LINES
    assert list(loaded.rules()) == list(FULL.rules())
    assert loaded.inventory.zones == FULL.inventory.zones
    assert loaded.inventory.hosts == FULL.inventory.hosts
    assert loaded.forbidden == FULL.forbidden
    assert (loaded.version, loaded.public, loaded.groups) == (FULL.version, FULL.public, FULL.groups)
    assert loaded.offsets == FULL.offsets == snapshot.offsets(LINES[0])
    assert all("\n" not in line for line in LINES)


def test_equal_policies_give_equal_lines() -> None:
    """The order of rules in the files does not show."""
    assert tuple(dump(build(OPS, RECORDER))) == tuple(dump(build(RECORDER, OPS)))


@given(st.lists(reference.rules, max_size=8))
def test_any_rules_survive_the_way(rules: list[Rule]) -> None:
    """Random rules come out as they went in."""
    made = build(*rules, zones=reference.ZONES, hosts=())
    lines = tuple(dump(made))
    assert tuple(dump(load(lines))) == lines
    assert sorted(map(repr, load(lines).rules())) == sorted(map(repr, made.rules()))


@given(st.data())
def test_what_is_missing_or_changed_is_found(data: st.DataObject) -> None:
    """One line left out, doubled, cut or moved, one letter changed: no policy comes out."""
    lines = list(LINES)
    at = data.draw(st.integers(0, len(lines) - 1))
    match data.draw(st.sampled_from(("leave out", "double", "cut", "change", "swap"))):
        case "leave out":
            del lines[at]
        case "double":
            lines.insert(at, lines[at])
        case "cut":
            del lines[at:]
        case "swap":
            other = data.draw(st.integers(0, len(lines) - 1))
            lines[at], lines[other] = lines[other], lines[at]
        case _:
            letter = data.draw(st.integers(0, len(lines[at]) - 1))
            changed = data.draw(st.characters(min_codepoint=32, max_codepoint=126))
            lines[at] = lines[at][:letter] + changed + lines[at][letter + 1 :]
    if lines == list(LINES):
        return
    with pytest.raises(InputRejected):
        load(lines)


@given(st.lists(st.one_of(st.text(max_size=200), st.sampled_from(LINES)), max_size=30))
def test_garbage_is_rejected(lines: list[str]) -> None:
    """Any texts are rejected by InputRejected and nothing else, and what is broken stays so."""
    loader = SnapshotLoader()
    try:
        for line in lines:
            loader.feed(line)
    except InputRejected:
        with pytest.raises(InputRejected, match="after its end or after an error"):
            loader.feed(LINES[0])
    with pytest.raises(InputRejected, match="incomplete"):
        loader.finish()


RULE = ["rule", "n", True, "f", 1, 0, False, 0, 0, [[22, 22]], [], None, []]


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("head", ["head", 2, "v", "", [], []]),
        ("head", ["head", 1, "", "", [], []]),
        ("head", ["head", 1, 5, "", [], []]),
        ("head", ["head", 1, "v", "nonsense", [], []]),
        ("head", ["head", 1, "v", "", [["x", 22]], []]),
        ("head", ["head", 1, "v", "", [[None, True]], []]),
        ("head", ["head", 1, "v", "", [], [[0, "x"]]]),
        ("head", ["head", 1, "v", ""]),
        ("head", ["zone", "office", [], "zt0", None]),
        ("head", "head"),
        ("head", []),
        ("head", None),
        ("head", ["nonsense"]),
        ("head", [["head"]]),
        ("zone", ["zone", "Office", [], "zt0", None]),
        ("zone", ["zone", "office", ["192.168.1.1/24"], "zt0", None]),
        ("zone", ["zone", "office", [], "zt0", "x"]),
        ("zone", ["zone", "office", [], 5, None]),
        ("host", ["host", "far", "office", "11.0.0.1", "", 22]),
        ("host", ["host", "far", "office", 5, "", 22]),
        ("group", ["group", "ops", "alice  bob"]),
        ("persons", ["persons", ""]),
        ("persons", ["persons", "alice\nbob"]),
        ("places", ["places", "office"]),
        ("places", ["places", "office 1.2.3.4/24 plant"]),
        ("rule", [*RULE, 1]),
        ("rule", [*RULE[:2], 1, *RULE[3:]]),
        ("rule", [*RULE[:5], 99, *RULE[6:]]),
        ("rule", [*RULE[:7], -1, *RULE[8:]]),
        ("rule", [*RULE[:8], 99, *RULE[9:]]),
        ("rule", [*RULE[:9], [[0, 22]], *RULE[10:]]),
        ("rule", [*RULE[:9], [[22, 65536]], *RULE[10:]]),
        ("rule", [*RULE[:9], [[22]], *RULE[10:]]),
        ("rule", [*RULE[:10], [[4, 33, 0]], *RULE[11:]]),
        ("rule", [*RULE[:10], [[6, 0, -1]], *RULE[11:]]),
        ("rule", [*RULE[:11], "never", []]),
        ("rule", [*RULE[:12], [[128, 0, 0]]]),
        ("rule", [*RULE[:12], [[1, 1440, 0]]]),
        ("masks", ["masks", "0x1", "0", "0"]),
        ("masks", ["masks", "-1", "0", "0"]),
        ("masks", ["masks", "ffff", "0", "0"]),
        ("masks", ["masks", 1, "0", "0"]),
        ("person", ["person", "alice", "ffff"]),
        ("person", ["person", 7, "0"]),
        ("place", ["place", "lab", 4, 8, 1, "0"]),
        ("place", ["place", "office", 4, 8, 1 << 40, "0"]),
        ("ports", ["ports", 1, "0"]),
        ("ports", ["ports", 65537, "0"]),
        ("end", ["end", 1, "0"]),
    ],
)
def test_each_kind_of_line_is_checked(kind: str, line: object) -> None:
    """A line that makes no sense is rejected where it stands, also when the digest would fit."""
    at = next(number for number, text in enumerate(LINES) if text.startswith(f'["{kind}"'))
    at += kind == "ports"  # behind the first one, to be out of order
    loader = SnapshotLoader()
    for text in LINES[:at]:
        loader.feed(text)
    with pytest.raises(InputRejected, match=f"line {at + 1} of the snapshot is invalid"):
        loader.feed(json.dumps(line))


def test_the_masks_come_before_the_end() -> None:
    """A snapshot whose digest fits and that stops early is incomplete."""
    at = next(number for number, text in enumerate(LINES) if text.startswith('["masks"'))
    with pytest.raises(InputRejected, match="is invalid"):
        load(sealed(list(LINES[:at])))
    assert load(sealed(list(LINES[:-1]))).version == "v1"


def test_lines_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """In length and in number; and deep nesting is no way around."""
    with pytest.raises(InputRejected, match="too long"):
        SnapshotLoader().feed("[" + " " * snapshot.LINE_MOST)
    with pytest.raises(InputRejected, match="is invalid"):
        SnapshotLoader().feed("[" * 100_000)
    monkeypatch.setattr(snapshot, "LINES_MOST", 2)
    with pytest.raises(InputRejected, match="one too many"):
        load(LINES)


def test_half_a_surrogate_pair_is_rejected() -> None:
    """Text that has no bytes has no digest."""
    with pytest.raises(InputRejected, match="is invalid"):
        SnapshotLoader().feed('["head",1,"\ud800","",[],[]]')


def test_a_loader_gives_one_policy() -> None:
    """What was given away is not touched again."""
    loader = SnapshotLoader()
    for line in LINES:
        loader.feed(line)
    loader.finish()
    with pytest.raises(InputRejected):
        loader.finish()
    with pytest.raises(InputRejected):
        loader.feed(LINES[-1])


def test_a_replaced_policy_is_freed_without_the_garbage_collector() -> None:
    """A replaced policy is freed at once: no reference cycle leaves it to the garbage collector."""
    gc.collect()
    gc.disable()
    try:
        loader = SnapshotLoader()
        for line in LINES:
            loader.feed(line)
        loaded = loader.finish()
        assert loaded.decide_by_rules("alice", HERE, parse_spec("remote:22"), NOW).allowed
        assert len(loaded.index.rules) == 4
        before = sum(isinstance(thing, RuleIndex) for thing in gc.get_objects())
        del loader, loaded
        after = sum(isinstance(thing, RuleIndex) for thing in gc.get_objects())
        assert before - after == 1
    finally:
        gc.enable()

"""The compiling child: a site in, JSON lines out."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.core.policy.snapshot import SnapshotLoader
from relay.core.policy.target import parse_spec
from relay.core.settings import Settings, settings_from_json
from relay.errors import SiteInvalid
from relay.site.policy import compiler

NOW = 1_764_000_000
CHECKOUT = Path(__file__).parents[3]
POLICY = """
zones:
  office: {networks: [192.168.1.0/24], interface: "zt*", gateway: 172.18.0.200}
hosts:
  remote: {address: 192.168.1.201, zone: office}
rules:
  - {name: ssh, allow: [alice], to: [office], ports: [22]}
"""


def child(site: Path) -> tuple[int, list[list[object]]]:
    done = subprocess.run([sys.executable, "-m", "relay.site.policy.compiler", site], capture_output=True, text=True)
    assert done.stderr == ""
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def test_the_relays_own_pages_are_never_dialled(make_site: Callable[..., Path]) -> None:
    """Whatever a rule allows on loopback, the metrics are not reached through the relay; the ports beside are."""
    policy = """
zones:
  here: {networks: [127.0.0.0/8], interface: lo}
rules:
  - {name: all, allow: [alice], to: [here], ports: ["9000-9999"]}
"""
    compiled = compiler.load(make_site("metrics: 127.0.0.1:9422\n", a=policy), now=NOW)
    verdicts = {
        asked: compiled.policy.decide_by_rules("alice", None, parse_spec(asked), NOW).allowed
        for asked in ("127.0.0.1:9422", "127.0.0.1:9421", "127.0.0.1:9423", "127.0.0.2:9422")
    }
    assert verdicts == {
        "127.0.0.1:9422": False,
        "127.0.0.1:9421": True,
        "127.0.0.1:9423": True,
        "127.0.0.2:9422": True,
    }


def test_valid_site(make_site: Callable[..., Path]) -> None:
    """A valid site gives settings, time zone, texts, the policy's snapshot and `done`, and a policy that decides."""
    site = make_site("timezone: Asia/Shanghai\n", a=POLICY)
    status, lines = child(site)
    assert status == 0
    assert [line[0] for line in lines[:2]] == ["settings", "offsets"]
    assert lines[-1][0] == "done"
    assert lines[-1][2] == [
        "policies/a.yaml:7: alice has no key (no keys/alice.pub) and is not a group; relayctl add-key alice"
    ]
    assert {line[1]: line[2] for line in lines if line[0] == "text"} == {
        "relay.yaml": "timezone: Asia/Shanghai\n",
        "policies/a.yaml": POLICY,
    }
    loader = SnapshotLoader()
    for line in lines:
        if line[0] == "policy":
            loader.feed(str(line[1]))
    policy = loader.finish()
    assert policy.version == lines[-1][1]
    assert policy.decide_by_rules("alice", None, parse_spec("remote:22"), NOW).allowed
    assert not policy.decide_by_rules("bob", None, parse_spec("remote:22"), NOW).allowed


def test_invalid_site(make_site: Callable[..., Path]) -> None:
    """A broken site gives its faults and nothing else, with exit status 1."""
    status, lines = child(make_site("workers: x\n", a="rules: [7]\n"))
    assert status == 1
    (line,) = lines
    assert line[0] == "faults"
    assert isinstance(line[1], list)
    assert [fault[:2] for fault in line[1]] == [["policies/a.yaml", 1], ["relay.yaml", 1]]


def test_failing_expectation_is_not_applied(make_site: Callable[..., Path]) -> None:
    """A site whose expectations do not hold is refused like one with faults."""
    site = make_site(a=POLICY + "expect:\n  - {who: alice, to: 'remote:22', verdict: deny}\n")
    with pytest.raises(SiteInvalid, match=r"the rule 'ssh' \(policies/a.yaml:7\) decided"):
        compiler.load(site, now=NOW)


def test_missing_files_are_defaults(make_site: Callable[..., Path]) -> None:
    """Without relay.yaml and policies a site has the default settings and reaches nothing."""
    site = make_site()
    (site / "policies").rmdir()
    (site / "keys").rmdir()
    found = compiler.load(site, now=NOW)
    assert found.settings == Settings()
    assert not found.policy.decide_by_rules("alice", None, parse_spec("remote:22"), NOW).allowed


def test_settings_survive_the_trip() -> None:
    """Settings come out of JSON as they went in; unknown ones are ignored and missing ones have their default."""
    value = json.loads(json.dumps(compiler.settings_to_json(Settings(workers=3, listen=("127.0.0.1:0",)))))
    assert settings_from_json(value | {"later": 1}) == Settings(workers=3, listen=("127.0.0.1:0",))
    assert settings_from_json({}) == Settings()


def test_version_is_of_names_and_texts() -> None:
    """The version changes with any text or name, and with nothing else."""
    versions = {
        compiler.version_of(texts)
        for texts in ({"a": "b"}, {"a": "c"}, {"b": "b"}, {"a": "b", "c": ""}, {"ab": ""}, {"a": "b", "": "c"}, {})
    }
    assert len(versions) == 7
    assert compiler.version_of({"a": "1", "b": "2"}) == compiler.version_of({"b": "2", "a": "1"})


def test_state_in_an_unusual_spelling(make_site: Callable[..., Path]) -> None:
    """`state:` spelt so that the line scan misses it is a fault, or two programs would use two databases."""
    for text in ("{state: /srv/x}\n", "state:\n  /srv/x\n", '"state": /srv/x\n'):
        with pytest.raises(SiteInvalid, match="unusual way"):
            compiler.load(make_site(text), now=NOW)
    assert compiler.load(make_site("state: /srv/x\n"), now=NOW).settings.state == "/srv/x"


@pytest.mark.parametrize("name", ["b.yml", "b.YAML"])
def test_other_endings_are_faults(make_site: Callable[..., Path], name: str) -> None:
    """A policy file that would not be read is a fault: a deny rule in it would silently not hold."""
    site = make_site(a=POLICY)
    (site / "policies" / name).touch(mode=0o640)
    with pytest.raises(SiteInvalid, match="rename it"):
        compiler.load(site, now=NOW)


def test_odd_files(make_site: Callable[..., Path]) -> None:
    """A FIFO, a directory, a dangling link, a file open to all and one too large are faults, and nothing hangs."""
    site = make_site(a=POLICY)
    policies = site / "policies"
    os.mkfifo(policies / "fifo.yaml")
    (policies / "directory.yaml").mkdir()
    (policies / "link.yaml").symlink_to("nowhere")
    (policies / "open.yaml").touch()
    (policies / "open.yaml").chmod(0o666)
    (policies / "large.yaml").write_bytes(b"#" * (1 << 20) + b"#")
    (policies / "large.yaml").chmod(0o640)
    (policies / ".hidden.yaml").write_text("[")
    found = {fault.file for fault in compiler.examine(site, now=NOW).faults}
    assert found == {f"policies/{name}.yaml" for name in ("fifo", "directory", "link", "open", "large")}


def test_the_checkout_is_a_valid_site() -> None:
    """The example site of this repository is valid with zero people, and its expectations hold."""
    found = compiler.compile_documents(
        {name: (CHECKOUT / name).read_bytes() for name in ("relay.yaml", "policies/example.yaml")}, frozenset(), now=NOW
    )
    assert found.compiled is not None, (found.faults, found.failures)
    assert found.compiled.expectations


_WORDS = st.sampled_from(
    ["zones", "hosts", "groups", "rules", "expect", "name", "allow", "deny", "to", "ports", "who", "verdict", "office",
     "networks", "interface", "address", "zone", "10.0.0.0/8", "10.0.0.1", "zt0", "22", "until", "2026-12-31", "alice",
     "from", "listen", "limits", "at", "hours", "remote:22", "*", ""]
)  # fmt: skip
_VALUES = st.recursive(
    st.one_of(_WORDS, st.none(), st.booleans(), st.integers(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_WORDS, inner, max_size=4)),
    max_leaves=20,
)


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    st.one_of(_VALUES.map(lambda value: json.dumps(value).encode()), st.binary(max_size=100)), st.binary(max_size=60)
)
def test_any_files(policy: bytes, relay: bytes) -> None:
    """Whatever stands in a site's files, they compile or have faults; never a traceback."""
    for contents in ({"policies/a.yaml": policy, "relay.yaml": relay}, {"relay.yaml": policy}):
        found = compiler.compile_documents(contents, frozenset({"alice"}), now=NOW)
        assert (found.compiled is None) == bool(found.faults or found.failures)

"""Whatever happens in whatever order: no byte without a durable opening row and a decision that holds.

A state machine of hypothesis drives a real relay in namespaces of its own, and everything that may happen to it: people
log in and open forwards, keys are revoked, removed, replaced or expire, the policy changes or breaks, the zone goes and
comes, workers and supervisors are killed, one supervisor hands over to another. Beside it runs a model of who may do
what since when. Bytes flow on all forwards all the time (see traffic), and after each step:

- no forward that is forbidden for more than a second carries a byte, and the reason of its end is on record;
- each forward that is allowed goes on, whatever happens to others;
- no byte, and no confirmation, came before the opening row was durable, and no byte is missing in the closing row;
- each opening has exactly one closing row, and the chain is intact.

`make fuzz` has it play for much longer, with other dice each time.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, strategies
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from relay.cli.running import open_sessions
from relay.people import revoke
from relay.serve import control_client
from relay.site import key_files, locate
from tests.net.conftest import Namespace
from tests.relay_process import Relay, make_key, relay, wait_for
from tests.serve.hostile import Key, load_key
from tests.serve.traffic import Books, Caller, Flow, Ledger, Targets, worker_of
from tests.serve.worker.test_zone_watch import BROKEN, SILENT, TARGET, Scene

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("serve-interleavings")]

FUZZ = os.environ.get("RELAY_HYPOTHESIS") == "fuzz"
EXAMPLES = int(os.environ.get("RELAY_EXAMPLES", "100" if FUZZ else "4"))
STEPS = 50 if FUZZ else 20
MOST = 40  # forwards at once
# how often at most in one example: what takes seconds, and what leaves nothing to look at
DEAR = {"restart": 2, "kill_supervisor": 2, "kill_worker": 3, "replace_policy": 6, "wait": 4, "zone_goes": 4}

BOUND = 1.0  # seconds from a decision to the end of what it forbids
BY_FILES = 2.5  # likewise when nobody was told, and the files are looked at
HEAD = """\
zones:
  office: {{networks: [192.168.1.0/24], interface: "zt*", gateway: 172.18.0.200}}
  here: {{networks: [127.0.0.0/8], interface: lo}}
hosts:
  remote: {{address: {target}, zone: office}}
  silent: {{address: {silent}, zone: office}}
  near: {{address: 127.0.0.2, zone: here}}
rules:
"""
RULES = {  # a policy's rules -> who may reach which zone by them
    '  - {name: all, allow: [alice, bob], to: [office, here], ports: ["1-65535"]}\n': {
        ("alice", "office"), ("alice", "here"), ("bob", "office"), ("bob", "here"),
    },
    '  - {name: alice, allow: [alice], to: [office, here], ports: ["1-65535"]}\n': {
        ("alice", "office"), ("alice", "here"),
    },
    '  - {name: near, allow: [alice, bob], to: [here], ports: ["1-65535"]}\n': {("alice", "here"), ("bob", "here")},
    '  - {name: all, allow: [alice, bob], to: [office, here], ports: ["1-65535"]}\n'
    "  - {name: not alice, deny: [alice], to: [office]}\n": {
        ("alice", "here"), ("bob", "office"), ("bob", "here"),
    },
}  # fmt: skip
POLICIES = tuple(RULES)
BROKEN_RULES = "  - {name: all, allow: [nobody-at-all\n"
PERSONS = ("alice", "bob")
HOSTS = {"office": "remote", "here": "near", "silent": "silent"}

# what a closing row may say of a forward that was forbidden for that reason
WORDS = {
    "revoked": {"key-revoked", "key-unlisted"},
    "removed": {"key-unlisted"},
    "expired": {"key-expired"},
    "policy": {"no-rule", "deny-rule", "policy-changed"},
    "killed": {"killed"},
    "zone": {"overlay-down", "gateway-silent", "target-unreachable"},
}

LISTEN = """
import os, socket, sys
ours = socket.socket(fileno=int(sys.argv[1]))
while line := ours.recv(100).decode():
    address, port = line.split()
    with socket.create_server((address, int(port)), backlog=8) as sock:
        socket.send_fds(ours, [b"."], [sock.fileno()])
"""


class Doors:
    """Listening sockets of another network namespace, used in this process."""

    def __init__(self, namespace: Namespace) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [*namespace._enter, sys.executable, "-c", LISTEN, str(theirs.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()])

    def listen(self, address: str, port: int) -> socket.socket:
        """A listening socket there."""
        self._ours.send(f"{address} {port}".encode())
        _, descriptors, _, _ = socket.recv_fds(self._ours, 1, 1)
        return socket.socket(fileno=descriptors[0])

    def close(self) -> None:
        """The end of the test."""
        self._ours.close()
        self._process.wait(10)


class World:
    """What all examples share: the machine, its network, and a relay that is never as it was."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.relay = scene.relay
        self.ledger = Ledger(scene.relay.state)
        self.doors = {"office": Doors(scene.gateway), "here": Doors(scene.host)}
        self._port = 20_000
        self.tally: Counter[str] = Counter()  # what became of forwards
        self.latest: list[float] = []  # how long after a decision the last byte came

    def policy(self, rules: str) -> None:
        """Write the policy; nobody is told."""
        self.relay.policy(HEAD.format(target=TARGET, silent=SILENT) + rules)

    def port(self) -> int:
        """A port for one more target."""
        self._port = self._port + 1 if self._port < 32_000 else 20_000
        self.ledger.opened.pop(self._port, None)
        return self._port

    def close(self) -> None:
        """The end."""
        for doors in self.doors.values():
            doors.close()


@dataclass(eq=False)
class Credential:
    """A key of somebody. Times are time.monotonic()."""

    person: str
    private: Key
    line: str
    fingerprint: str
    forbidden: str = ""  # why, as in WORDS
    expires: float = float("inf")


@dataclass(eq=False)
class Held:
    """What the model knows of a forward."""

    def __str__(self) -> str:
        words = ", ".join(sorted(self.words))
        return (
            f"{self.flow} by {self.zone} must_refuse={self.must_refuse} may_fail={self.may_fail} "
            f"forbidden={self.forbidden} since={self.since:.3f} due={self.due:.3f} asked={self.flow.asked:.3f} "
            f"last={self.flow.last:.3f} ended={self.flow.ended:.3f} {self.flow.refusal!r} ({words})"
        )

    flow: Flow
    key: Credential
    zone: str
    must_refuse: bool = False  # it was asked for while it was forbidden, or nobody could record it
    may_fail: bool = False  # something happened that may end it, or not
    forbidden: bool = False
    killed: bool = False
    due: float = float("inf")  # it must be over by then
    since: float = float("inf")  # when the decision was made that forbids it
    words: set[str] = field(default_factory=set)  # for its closing row


class Interleavings(RuleBasedStateMachine):
    """One example."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.one: Relay = world.relay
        self.targets = Targets(world.ledger)
        self.keys: dict[str, Credential] = {}
        self.rules = POLICIES[0]  # in force
        self.wish = POLICIES[0]  # in the files
        self.zone_up = True
        self.up = True
        self.settled_at = 0.0  # from then on everybody knows of the last change
        self.callers: list[tuple[Caller, Credential]] = []
        self.waiting: list[tuple[Caller, Credential, bool]] = []  # in the middle of their log-in; shaken
        self.left = Counter(DEAR)
        self.ending: dict[Caller, float] = {}  # connections that may end, having lost what they were for; until when
        self.held: list[Held] = []
        self.done: list[Held] = []

    @initialize()
    def begin(self) -> None:
        """Everybody has a new key and may reach everything."""
        self.world.policy(POLICIES[0])
        for person in PERSONS:
            self._new_key(person)
        control_client.call(self.one.state, {"do": "reload"})
        wait_for(lambda: self.world.scene.zone()["up"], "the zone does not come up")
        self._people()

    # ---- people

    def _log_in(self, person: str) -> None:
        """A whole log-in."""
        key = self.keys[person]
        caller = Caller(self.one, self.world.ledger, person, key.private)
        self._entered(caller, key, shaken=False)

    @precondition(lambda self: self.up)
    @rule(person=strategies.sampled_from(PERSONS))
    def offer(self, person: str) -> None:
        """Half of one: the signature is still to come."""
        key = self.keys[person]
        caller = Caller(self.one, self.world.ledger, person, key.private)
        if caller.offered():
            self.waiting.append((caller, key, False))
        else:
            caller.hang_up()
            assert self._key_trouble(key), f"the key of {person} is not known, but it is listed"

    @rule()
    def sign(self) -> None:
        """The other half."""
        if self.waiting:
            self._entered(*self.waiting.pop(0))

    def _entered(self, caller: Caller, key: Credential, shaken: bool) -> None:
        trouble, known = self._key_trouble(key), time.monotonic() > self.settled_at
        if caller.enter():
            assert not (trouble and known), f"{caller} got in, but the key is {trouble}"
            self.callers.append((caller, key))
        else:
            assert trouble or self._key_trouble(key) or shaken, f"{caller} did not get in: {caller.last_words}"

    @rule(
        person=strategies.sampled_from(PERSONS), zone=strategies.sampled_from(tuple(HOSTS)), new=strategies.booleans()
    )
    def open(self, person: str, zone: str, new: bool) -> None:
        """A forward, and its answer; on a new connection if need be."""
        held = self._ask(person, zone, new=new)
        assert held is None or held.flow.answered.wait(20), f"{held} was never answered"

    @rule(
        person=strategies.sampled_from(PERSONS),
        zone=strategies.sampled_from(tuple(HOSTS)),
        count=strategies.integers(1, 4),
    )
    def ask(self, person: str, zone: str, count: int) -> None:
        """Forwards whose answers come whenever they come, in the middle of other things."""
        for _ in range(count):
            self._ask(person, zone, new=False)

    def _people(self) -> None:
        """Everybody has a forward into each zone, or has just asked for it: something is to be lost."""
        for person in PERSONS:
            for zone in ("office", "here"):
                mine = [held for held in self.held if (held.key.person, held.zone) == (person, zone)]
                if not any(not held.flow.over.is_set() and not held.forbidden for held in mine):
                    self._ask(person, zone, new=zone == "here")

    def _ask(self, person: str, zone: str, *, new: bool) -> Held | None:
        if len(self.held) >= MOST:
            return None
        mine = [index for index, (caller, _) in enumerate(self.callers) if caller.person == person]
        if self.up and (not mine or (new and len(mine) < 3)):
            if self._key_trouble(self.keys[person]):
                self._renew(person)
            self._log_in(person)
            mine = [index for index, (caller, _) in enumerate(self.callers) if caller.person == person]
        return self._ask_on(mine[-1], zone) if mine else None

    def _ask_on(self, who: int, zone: str) -> Held:
        caller, key = self.callers[who]
        port = self.world.port()
        address = {"office": TARGET, "here": "127.0.0.2"}.get(zone)
        flow = Flow(caller, self.world.doors[zone].listen(address, port) if address else None, port)
        if flow.listener is not None:
            self.targets.add(flow)
        held = Held(flow, key, "office" if zone == "silent" else zone)
        now = time.monotonic()
        trouble = self._trouble(held, now)
        held.forbidden = bool(trouble)
        held.must_refuse = (bool(trouble) and (now > self.settled_at or trouble == "zone")) or not self.up
        held.may_fail = zone == "silent" or bool(caller.gone_at) or (bool(trouble) and not held.must_refuse)
        if trouble:
            held.since, held.due = now, max(now, self.settled_at)
            held.words |= WORDS[trouble]
        # workers of a former supervisor need a moment to find the next one
        held.may_fail |= now < max(self.joined_at, self.loaded_at) or now < self.ending.get(caller, 0)
        self.held.append(held)
        caller.ask_for(HOSTS[zone], flow)
        return held

    joined_at = 0.0
    loaded_at = 0.0  # when the workers have a new law at the latest: what it allows may be refused until then

    @rule(who=strategies.integers(0, 5))
    def hang_up(self, who: int) -> None:
        """A client goes away with all that it has."""
        if not self.callers:
            return
        caller, _ = self.callers.pop(who % len(self.callers))
        for held in self.held:
            if held.flow.caller is caller:
                held.may_fail = True
                held.words |= {"client-gone", "client-closed", "connection-lost", "connection-gone"}
        caller.hang_up()

    @precondition(lambda self: self.up)
    @rule(which=strategies.integers(0, 30), whole=strategies.booleans())
    def kill(self, which: int, whole: bool) -> None:
        """As `relayctl kill` does it: a connection, or a forward."""
        self._people()
        found = [held for held in self.held if held.flow.confirmed and not held.flow.over.is_set()]
        row = self.world.ledger.opening(found[which % len(found)].flow.port) if found else None
        if row is None or time.monotonic() < self.joined_at:
            return
        meant = found[which % len(found)]
        before = self.joined_at
        done = open_sessions.query(
            locate.find(str(self.one.site), {}),
            {"do": "kill", "kind": "id", "what": row["connection" if whole else "forward"], "by": {}, "dry": False},
        )
        assert not done.silent, done
        now = time.monotonic()
        for held in self.held:
            if held is meant or (whole and held.flow.caller is meant.flow.caller):
                held.killed = held.forbidden = True
                held.words |= WORDS["killed"]
                held.due = min(held.due, now + BOUND)
                held.since = min(held.since, now)
                self._may_end(held)
        assert done.connections or meant.due < float("inf"), before

    # ---- keys

    def _new_key(self, person: str) -> None:
        path = self.one.directory / person
        line = make_key(path, f"{person}@test")
        (self.one.site / "keys" / f"{person}.pub").write_text(line + "\n")
        fingerprint = next(
            key.fingerprint for key in key_files.read(self.one.site).keys.values() if key.person == person
        )
        self.keys[person] = Credential(person, load_key(path), line, fingerprint)

    @rule(person=strategies.sampled_from(PERSONS))
    def revoke(self, person: str) -> None:
        """As `relayctl revoke-key` does it."""
        self._people()
        directory, files = self.one.site / "keys", key_files.read(self.one.site)
        condemned = revoke.find(directory, self.keys[person].fingerprint, (files,))
        revoke.revoke(directory, condemned, files.revocations, now=int(time.time()), who="test")
        self._apply(person)
        self._out(self.keys[person], "revoked", BOUND if self.up else BY_FILES)

    @rule(person=strategies.sampled_from(PERSONS))
    def remove(self, person: str) -> None:
        """The file of a person vanishes, and nobody says so."""
        self._people()
        (self.one.site / "keys" / f"{person}.pub").unlink(missing_ok=True)
        self._out(self.keys[person], "removed", BY_FILES)

    @precondition(lambda self: self.up)
    @rule(person=strategies.sampled_from(PERSONS))
    def replace_key(self, person: str) -> None:
        """A new key instead of the old one."""
        self._people()
        self._renew(person)

    def _renew(self, person: str) -> None:
        old = self.keys[person]
        self._new_key(person)
        self._apply(person)
        self._out(old, "removed", BOUND)

    @precondition(lambda self: self.up)
    @rule(person=strategies.sampled_from(PERSONS), seconds=strategies.integers(1, 2))
    def expire(self, person: str, seconds: int) -> None:
        """The key is good for a moment only."""
        self._people()
        key = self.keys[person]
        path = self.one.site / "keys" / f"{person}.pub"
        if key.forbidden or key.expires != float("inf") or not path.exists():
            return
        until = int(time.time()) + seconds
        text = time.strftime("%Y%m%d%H%M%SZ", time.gmtime(until))
        path.write_text(f'expiry-time="{text}" {key.line}\n')
        self._apply(person)
        key.expires = time.monotonic() + until - time.time()
        for held in self.held:
            if held.key is key:
                held.words |= WORDS["expired"]
        self._changed(BOUND)

    def _apply(self, person: str) -> None:
        if self.up:
            answer = control_client.call(self.one.state, {"do": "apply-keys", "persons": [person], "events": []})
            assert answer["ok"], answer

    def _out(self, key: Credential, why: str, bound: float) -> None:
        key.forbidden = key.forbidden or why
        for held in self.held:
            if held.key is key:
                held.words |= WORDS[why]
        self._changed(bound)

    # ---- policy and zone

    @precondition(lambda self: self.left["replace_policy"])
    @rule(number=strategies.integers(0, len(POLICIES)))
    def replace_policy(self, number: int) -> None:
        """Another one, or a broken one; in force at once, or with the next supervisor."""
        self._people()
        self.left["replace_policy"] -= 1
        rules = self.wish = POLICIES[number] if number < len(POLICIES) else BROKEN_RULES
        self.world.policy(rules)
        if self.up:
            answer = control_client.call(self.one.state, {"do": "reload"})
            assert answer["ok"] is (rules != BROKEN_RULES), answer
            self._law()

    def _law(self) -> None:
        if self.wish != BROKEN_RULES:
            self.rules = self.wish
        self.loaded_at = time.monotonic() + 0.25
        self._changed(BOUND)

    @precondition(lambda self: self.zone_up and self.left["zone_goes"])
    @rule(how=strategies.sampled_from([name for name in BROKEN if name != "interface-ambiguous"]))
    def zone_goes(self, how: str) -> None:
        """Its interface or its route is no more."""
        self._people()
        self.left["zone_goes"] -= 1
        self.world.scene.batch(*BROKEN[how])
        self.zone_up = False
        self._changed(BOUND)

    @precondition(lambda self: not self.zone_up)
    @rule()
    def zone_comes(self) -> None:
        """All is as it was."""
        self.world.scene.heal()
        self.zone_up = True
        self._changed(BOUND)

    # ---- processes

    @precondition(lambda self: self.left["kill_worker"])
    @rule(which=strategies.integers(0, 9))
    def kill_worker(self, which: int) -> None:
        """With all that it carries; the others notice nothing."""
        self._people()
        self.left["kill_worker"] -= 1
        found = self.one.worker_pids()
        if not found:
            return
        pid = found[which % len(found)]
        name = worker_of(pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not worker_of(pid), "it does not die")
        for held in self.held:
            row = self.world.ledger.opening(held.flow.port)
            if row is None or row["worker"] == name:
                held.may_fail = True
                held.words |= {"worker-lost"}
        for held in self.done:  # what it could not tell anybody yet is lost with it
            if not self.world.ledger.closings(held.flow.port):
                held.words |= {"worker-lost"}
        self.waiting = [(caller, key, True) for caller, key, _ in self.waiting]

    @precondition(lambda self: self.up and self.left["kill_supervisor"])
    @rule()
    def kill_supervisor(self) -> None:
        """What is open goes on; what is asked for is refused."""
        self._people()
        self.left["kill_supervisor"] -= 1
        self._shake()
        self.one.kill_supervisor()
        self.up = False
        self._shake()

    @precondition(lambda self: not self.up)
    @rule()
    def start(self) -> None:
        """The next supervisor: it takes the files as they are, and the workers that are left."""
        self.one.start()
        self.up = True
        self._shake()
        self.joined_at = time.monotonic() + 2
        self._law()

    def _shake(self) -> None:
        for held in self.held:
            held.may_fail |= held.must_refuse or not held.flow.answered.is_set()
            held.must_refuse = False
        self.waiting = [(caller, key, True) for caller, key, _ in self.waiting]

    @precondition(lambda self: self.up and self.left["restart"])
    @rule()
    def restart(self) -> None:
        """systemd restarts the supervisor: no client notices, not even one that is just opening a forward."""
        self._people()
        self.left["restart"] -= 1
        self.one.restart()
        self._law()

    @precondition(lambda self: self.left["wait"])
    @rule(seconds=strategies.sampled_from((0.1, 0.5, 1.2)))
    def wait(self, seconds: float) -> None:
        """Some time passes."""
        self.left["wait"] -= 1
        time.sleep(seconds)

    # ---- the model

    def _key_trouble(self, key: Credential) -> str:
        return key.forbidden or ("expired" if time.monotonic() >= key.expires else "")

    def _trouble(self, held: Held, now: float) -> str:
        """Why it is forbidden now, as in WORDS; "" if it is not."""
        trouble = "killed" if held.killed else self._key_trouble(held.key)
        if trouble:
            return trouble
        if (held.key.person, held.zone) not in RULES[self.rules]:
            return "policy"
        return "zone" if held.zone == "office" and not self.zone_up else ""

    def _changed(self, bound: float) -> None:
        """Something is allowed or forbidden since now, and known everywhere `bound` seconds later."""
        now = time.monotonic()
        self.settled_at = max(self.settled_at, now + bound)
        for held in self.held:
            self._judge(held, now, bound)

    def _judge(self, held: Held, now: float, bound: float) -> None:
        trouble = self._trouble(held, now)
        if trouble:
            held.words |= WORDS[trouble]
            if not held.forbidden:
                since = min(held.key.expires, now) if trouble == "expired" else now
                held.since, held.due = since, since + bound
            held.due = min(held.due, now + bound)
            self._may_end(held)
        elif held.forbidden:  # allowed again, before it was cut or after
            held.may_fail, held.must_refuse = True, False
            held.since = held.due = float("inf")
        held.forbidden = bool(trouble)

    def _may_end(self, lost: Held) -> None:
        """A connection ends when none of its forwards is left, also for what is just being asked for."""
        self.ending[lost.flow.caller] = max(self.ending.get(lost.flow.caller, 0), lost.due + 0.5)
        for held in self.held:
            if held.flow.caller is lost.flow.caller and not held.flow.answered.is_set():
                held.may_fail = True

    @invariant()
    def holds(self) -> None:
        """What must always hold."""
        now = time.monotonic()
        slack = 0.25 + 2 * self.targets.lag
        for held in tuple(self.held):
            if held.key.expires <= now:
                self._judge(held, now, BOUND)
            flow = held.flow
            story = str(held)
            assert not flow.faults, (flow.faults, story)
            assert not (held.must_refuse and flow.confirmed), f"it was opened, but it was forbidden: {story}"
            if now > held.due + slack:
                assert flow.over.is_set(), f"it is forbidden, and goes on: {story}"
            if not flow.over.is_set():
                continue
            if flow.confirmed and held.forbidden:
                assert flow.last <= held.due + slack, f"{flow.last - held.since:.3f} s later there was a byte: {story}"
                self.world.latest.append(max(flow.last - held.since, 0))
            elif not held.forbidden and not held.must_refuse:
                assert held.may_fail, f"it was allowed, and ended: {flow.refusal!r} {story}"
            self.held.remove(held)
            self.done.append(held)
        for caller, _ in self.callers:
            assert not caller.faults, caller.faults
            if caller.gone_at:
                caller.hang_up()
        self.callers = [(caller, key) for caller, key in self.callers if not caller.gone_at]

    def teardown(self) -> None:
        """Everything that was decided comes true, what is allowed goes on, and all of it is on record."""
        try:
            self._end()
        finally:
            for caller, *_ in self.callers + self.waiting:  # type: ignore[operator]  # pairs and triples
                caller.hang_up()
            self.targets.close()
            if not self.zone_up:
                self.world.scene.heal()
            if self.one.process is None:
                self.one.start()

    def _end(self) -> None:
        self.holds()
        finite = [held.due for held in self.held if held.due < float("inf")]
        time.sleep(max(max(finite, default=0) + 0.3 + 2 * self.targets.lag - time.monotonic(), 0))
        for held in self.held:
            assert held.flow.answered.wait(20), f"{held.flow} was never answered"
        self.holds()
        for held in self.held:  # what is left is open, and flows both ways
            flow = held.flow
            there, back = flow.last_at_target, flow.last_at_caller
            wait_for(
                lambda flow=flow, there=there, back=back: (
                    flow.over.is_set() or (flow.last_at_target > there and flow.last_at_caller > back)
                ),
                f"nothing flows any more: {flow}",
            )
        self.holds()
        if not self.up:
            self.start()
        for held in tuple(self.held):
            held.may_fail = True
            held.words |= {"client-gone", "client-closed", "connection-lost"}
        for caller, _ in self.callers:
            caller.hang_up()
        for caller, *_ in self.waiting:
            caller.hang_up()
        self.holds()
        assert not self.held
        for held in self.done:
            self.targets.remove(held.flow)
        for held in self.done:
            self._recorded(held)
        assert "a bug of ours" not in self.one.log(), self.one.log()[-5000:]

    def _recorded(self, held: Held) -> None:
        flow = held.flow
        row = self.world.ledger.opening(flow.port)
        if row is None:
            assert not flow.confirmed, f"it has no opening row: {flow}"
            self.world.tally["refused"] += 1
            return
        closings = wait_for(lambda: self.world.ledger.closings(flow.port), f"it has no closing row: {held}")
        assert len(closings) == 1, closings
        closing = closings[0]
        self.world.tally[closing["reason"] if flow.confirmed else "not opened"] += 1
        if not flow.confirmed:
            return
        assert closing["reason"] in held.words, (closing, str(held))
        if closing["reason"] != "worker-lost":
            assert closing["sent"] >= flow.taken_by_target, (closing, flow.taken_by_target)
            assert closing["received"] >= flow.taken_by_caller, (closing, flow.taken_by_caller)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """The machine that all examples share."""
    scene = Scene()
    settings = "workers: 2\nlimits: {dial_timeout: 2s, login_grace: 600s, handshakes: 1000, scan_targets: 1000}\n"
    made = None
    try:
        with relay(
            tmp_path,
            HEAD.format(target=TARGET, silent=SILENT) + POLICIES[0],
            settings,
            scene.host._enter,
            by_systemd=True,
        ) as one:
            scene.relay = one
            made = World(scene)
            yield made
    finally:
        if made is not None:
            made.close()
        scene.close()


def _balanced(world: World) -> Books:
    """The audit database, which must have a closing row for each opening, and an intact chain."""
    wait_for(lambda: not Books.read(world.relay.state).still_open, "an opening has no closing row")
    books = Books.read(world.relay.state)
    assert not books.faults, books.faults
    return books


# each of the things that may happen, once, in an order in which each has something to lose
ONE_OF_EACH = (
    ("ask", "alice", "silent", 2),
    ("replace_policy", 1),  # bob is out
    ("wait", 1.2),
    ("replace_policy", len(POLICIES)),  # broken: the last one goes on
    ("offer", "alice"),
    ("restart",),
    ("sign",),
    ("replace_policy", 2),  # only what is near
    ("wait", 1.2),
    ("replace_policy", 0),
    ("wait", 0.3),  # a reload is answered a moment before the workers have it
    ("open", "alice", "office", False),
    ("zone_goes", "route-missing"),
    ("open", "bob", "office", True),
    ("wait", 1.2),  # else the worker may take its rows with it
    ("kill_worker", 0),
    ("zone_comes",),
    ("kill", 1, False),
    ("expire", "alice", 1),
    ("kill_supervisor",),
    ("open", "bob", "here", False),
    ("remove", "bob"),
    ("wait", 1.2),
    ("start",),
    ("replace_key", "alice"),
    ("revoke", "alice"),
    ("kill", 0, True),
    ("hang_up", 0),
)


def test_each_thing_that_may_happen_happens_once(world: World) -> None:
    """No dice: all the steps one after another, so that each is seen to do what the model says."""
    life = Interleavings(world)
    try:
        life.begin()
        for name, *values in ONE_OF_EACH:
            getattr(life, name)(*values)
            life.holds()
    finally:
        life.teardown()
    assert world.tally["no-rule"] >= 2, world.tally
    assert world.tally["overlay-down"] >= 1, world.tally
    assert world.tally["killed"] >= 1, world.tally
    _balanced(world)


@pytest.mark.timeout(7200 if FUZZ else 120)
def test_whatever_happens_no_byte_flows_without_row_and_right(world: World) -> None:
    """Random interleavings of everything that may happen to a relay, against a model of who may do what."""
    run_state_machine_as_test(
        lambda: Interleavings(world),
        settings=hypothesis.settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            # an example takes seconds and its processes do not play it twice alike: it is reported as it happened
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
            deadline=None,
        ),
    )
    books = _balanced(world)
    longest = f"{max(world.latest, default=0):.3f} s"
    sys.stdout.write(
        f"{books.openings} forwards in {books.rows} rows, {len(world.latest)} cut, the slowest after {longest}: "
        + ", ".join(f"{count} {word}" for word, count in world.tally.most_common())
        + "\n"
    )

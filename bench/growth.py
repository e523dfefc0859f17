"""How do both jump hosts grow? More streams, more log-ins and openings at once, more idle people, more rules."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import decision
import jumphosts
import measures
from figures import Table, no_less, no_more
from jumphosts import JumpHost
from processes import Started


@dataclass(frozen=True, slots=True)
class Steps:
    """How far."""

    streams: tuple[int, ...] = (1, 10, 100)
    seconds: float = 5.0  # with so many streams
    at_once: tuple[int, ...] = (1, 10, 100)  # log-ins and openings
    logins: int = 100  # for each of these
    idle: tuple[int, ...] = (100, 1000, 2000)
    rules: tuple[int, ...] = (10, 1000, 10_000)
    decisions: int = 20_000
    starts: int = 5


GOALS = {  # of the audit log and of the load to hold
    "memory in all, 2,000 people idle, MiB": no_more(95.4, "(100 MB)"),
    "forwards opened, 100 at once: per second": no_less(2000, "a second"),
    "forwards opened, 10 at once: wait p50, ms": no_more(10, "ms"),  # with 100 they wait for each other
    "one decision among 10,000 rules p99, us": no_more(50, "us"),
}


@dataclass(frozen=True, slots=True)
class Growth:
    """What grows, and the table of it."""

    started: Started
    hosts: tuple[JumpHost, JumpHost]  # sshd and the relay
    targets: tuple[int, int]  # the echoing one and the bulk one
    steps: Steps
    say: Callable[[str], None]
    table: Table

    def measure(self) -> None:
        """All of it, one jump host after the other in each step."""
        self.start()
        for jump in self.hosts:
            self.idle(jump)
        for count in self.steps.streams:
            for jump in self.hosts:
                self.streams(jump, count)
        for count in self.steps.at_once:
            for jump in self.hosts:
                self.logins(jump, count)
        for count in self.steps.at_once:
            for jump in self.hosts:
                self.openings(jump, count)
        for count in self.steps.rules:
            self.decisions(count)

    def _add(self, jump: JumpHost, name: str, value: float | None, *, more: bool = False, digits: int = 2) -> None:
        self.table.add(jump, name, value, more=more, digits=digits, goal=GOALS.get(name))

    def _fresh(self, jump: JumpHost) -> JumpHost:
        """Another one like `jump`, just started, with files that are there from the second time on."""
        home = jump.home.with_name(f"{jump.name}-fresh")
        if jump.name == "sshd":
            return jumphosts.start_sshd(self.started, home, jump.key)
        return jumphosts.start_relay(self.started, home, jump.key, self.targets)

    def start(self) -> None:
        """From the program's start to its first word to a client, with a site that was there before."""
        for run in range(self.steps.starts + 1):
            for jump in self.hosts:
                begin = time.perf_counter()
                fresh = self._fresh(jump)
                if run:  # the first makes keys and an empty database
                    self._add(jump, "start-up, ms", (time.perf_counter() - begin) * 1000, digits=0)
                self.started.end(fresh.process)

    def idle(self, jump: JumpHost) -> None:
        """People who are logged in and have nothing open; one just started has no memory left over to reuse."""
        fresh = self._fresh(jump)
        before, *sizes = measures.idle(fresh, (0, *self.steps.idle))
        self.started.end(fresh.process)
        for count, size in zip(self.steps.idle, sizes, strict=True):
            self._add(jump, f"memory in all, {count:,} people idle, MiB", size, digits=1)
        if before is not None and sizes[-1] is not None:
            count = self.steps.idle[-1]
            self._add(jump, f"memory of each of {count:,}, KiB", (sizes[-1] - before) * 1024 / count, digits=1)
            self.say(f"{jump.name} with {count:,} people idle: {sizes[-1]:.0f} MiB")

    def streams(self, jump: JumpHost, count: int) -> None:
        """Downloads, each in its connection, over all workers."""
        (speed, cpu, _), spent = measures.crowd(self.started, jump, self.targets, count, self.steps.seconds)
        what = f"{count} download{'s at once' if count > 1 else ''}"
        self._add(jump, f"throughput of {what}, MiB/s", speed, more=True, digits=0)
        self._add(jump, f"CPU of {what}, s/GB", cpu)
        for percent in (50, 99):
            self._add(jump, f"echo beside {what} p{percent}, ms", measures.centile(spent, percent))
        self.say(f"{jump.name}, {what}: {speed:.0f} MiB/s")

    def logins(self, jump: JumpHost, count: int) -> None:
        """Log-ins by real ssh, with a forward."""
        visits = max(self.steps.logins, count)
        cpu, rate, spent = measures.logins(self.started, jump, self.targets[0], visits, count)
        what = f"log-ins, {count} at once"
        self._add(jump, f"{what}: per second", rate, more=True, digits=0)
        self._add(jump, f"{what}: the slowest of 20, ms", measures.centile(spent, 95), digits=0)
        self._add(jump, f"{what}: CPU each, ms", cpu, digits=1)
        self.say(f"{jump.name}, {what}: {rate:.0f} a second")

    def openings(self, jump: JumpHost, count: int) -> None:
        """Forwards on connections that are there."""
        rate, spent = measures.openings(jump, self.targets[0], count, self.steps.seconds)
        what = f"forwards opened, {count} at once"
        self._add(jump, f"{what}: per second", rate, more=True, digits=0)
        for percent in (50, 99):
            self._add(jump, f"{what}: wait p{percent}, ms", measures.centile(spent, percent))
        self.say(f"{jump.name}, {what}: {rate:.0f} a second")

    def decisions(self, rules: int) -> None:
        """From the text of a target to the verdict (bench/decision.py says more)."""
        times, _ = decision.decisions(decision.site(rules), self.steps.decisions)
        for percent in (50, 99):
            spent = measures.centile(times, percent) * 1e6
            self._add(self.hosts[1], f"one decision among {rules:,} rules p{percent}, us", spent, digits=1)

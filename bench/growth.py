"""Both jump hosts under growing load: streams, simultaneous log-ins and openings, idle people, rules."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import decision
import jumphosts
import measures
from figures import Table
from jumphosts import JumpHost
from processes import Started


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of each series."""

    streams: tuple[int, ...] = (1, 10, 100)
    seconds: float = 5.0  # for each number of streams
    at_once: tuple[int, ...] = (1, 10, 100)  # log-ins and openings
    logins: int = 100  # in each of these steps
    idle: tuple[int, ...] = (100, 1000, 2000)
    rules: tuple[int, ...] = (10, 1000, 10_000)
    decisions: int = 20_000
    starts: int = 5


@dataclass(frozen=True, slots=True)
class Growth:
    """The measurements, and the table that receives them."""

    started: Started
    hosts: tuple[JumpHost, JumpHost]  # sshd and the relay
    targets: tuple[int, int]  # the echoing one and the bulk one
    steps: Steps
    say: Callable[[str], None]
    table: Table

    def measure(self) -> None:
        """Take all measurements, one jump host after the other in each step."""
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
        self.table.add(jump, name, value, more=more, digits=digits)

    def _fresh(self, jump: JumpHost) -> JumpHost:
        """A new process of the same kind; from the second call on its files exist already."""
        home = jump.home.with_name(f"{jump.name}-fresh")
        if jump.name == "sshd":
            return jumphosts.start_sshd(self.started, home, jump.key)
        return jumphosts.start_relay(self.started, home, jump.key, self.targets)

    def start(self) -> None:
        """Time from the start of the program to its first bytes to a client, with an existing site."""
        for run in range(self.steps.starts + 1):
            for jump in self.hosts:
                begin = time.perf_counter()
                fresh = self._fresh(jump)
                if run:  # the first run creates keys and an empty database
                    self._add(jump, "start-up, ms", (time.perf_counter() - begin) * 1000, digits=0)
                self.started.end(fresh.process)

    def idle(self, jump: JumpHost) -> None:
        """Memory of people who are logged in and have nothing open, in a new process without free memory to reuse."""
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
        """Downloads, each in a connection of its own, over all workers."""
        (speed, cpu, _), spent = measures.crowd(self.started, jump, self.targets, count, self.steps.seconds)
        what = f"{count} download{'s at once' if count > 1 else ''}"
        self._add(jump, f"throughput of {what}, MiB/s", speed, more=True, digits=0)
        self._add(jump, f"CPU of {what}, s/GB", cpu)
        for percent in (50, 99):
            self._add(jump, f"echo beside {what} p{percent}, ms", measures.centile(spent, percent))
        self.say(f"{jump.name}, {what}: {speed:.0f} MiB/s")

    def logins(self, jump: JumpHost, count: int) -> None:
        """Log-ins with a forward, by real ssh clients."""
        visits = max(self.steps.logins, count)
        cpu, rate, spent = measures.logins(self.started, jump, self.targets[0], visits, count)
        what = f"log-ins, {count} at once"
        self._add(jump, f"{what}: per second", rate, more=True, digits=0)
        self._add(jump, f"{what}: the slowest of 20, ms", measures.centile(spent, 95), digits=0)
        self._add(jump, f"{what}: CPU each, ms", cpu, digits=1)
        self.say(f"{jump.name}, {what}: {rate:.0f} a second")

    def openings(self, jump: JumpHost, count: int) -> None:
        """Forwards on open connections."""
        rate, spent = measures.openings(jump, self.targets[0], count, self.steps.seconds)
        what = f"forwards opened, {count} at once"
        self._add(jump, f"{what}: per second", rate, more=True, digits=0)
        for percent in (50, 99):
            self._add(jump, f"{what}: wait p{percent}, ms", measures.centile(spent, percent))
        self.say(f"{jump.name}, {what}: {rate:.0f} a second")

    def decisions(self, rules: int) -> None:
        """Decisions, from the text of a target to the verdict (see bench/decision.py)."""
        times, _ = decision.decisions(decision.site(rules), self.steps.decisions)
        for percent in (50, 99):
            spent = measures.centile(times, percent) * 1e6
            self._add(self.hosts[1], f"one decision among {rules:,} rules p{percent}, us", spent, digits=1)

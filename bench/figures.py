"""What did the runs give, who is better, and is the goal reached? Values of both jump hosts, as a Markdown table."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jumphosts import JumpHost

EVEN = 0.05  # a ratio nearer to 1 than this is called even, and so is one that the runs' spread explains
NOISE, NOISE_P99 = 0.15, 0.30  # what sshd differs by from a second sshd, measured with compare.py


@dataclass(frozen=True, slots=True)
class Goal:
    """What the relay is to reach, in words and of the two medians."""

    text: str
    reached: Callable[[float, float], bool]  # of sshd's and the relay's
    alone: bool = False  # sshd's does not matter


def at_most(ratio: float) -> Goal:
    """Of what sshd needs."""
    return Goal(f"at most {ratio:g}", lambda sshd, relay: relay <= sshd * ratio)


def at_least(ratio: float) -> Goal:
    """Of what sshd gives."""
    return Goal(f"at least {ratio:g}", lambda sshd, relay: relay >= sshd * ratio)


def plus(extra: float, of: str) -> Goal:
    """No more than sshd's figure and `extra`, which is `of` something that sshd does not do."""
    return Goal(f"sshd's + {extra:.2f} ({of})", lambda sshd, relay: relay <= sshd + extra)


def no_more(most: float, unit: str) -> Goal:
    """Than that, whatever sshd does."""
    return Goal(f"at most {most:,g} {unit}", lambda sshd, relay: relay <= most, alone=True)


def no_less(least: float, unit: str) -> Goal:
    """Than that, whatever sshd does."""
    return Goal(f"at least {least:,g} {unit}", lambda sshd, relay: relay >= least, alone=True)


@dataclass(slots=True)
class Figure:
    """One line of the table: per jump host the values of its runs."""

    name: str
    more_is_better: bool = False
    digits: int = 2
    goal: Goal | None = None
    values: dict[str, list[float]] = field(default_factory=dict)

    def middle(self, name: str) -> float | None:
        """The median; None if it was not or could not be measured."""
        return statistics.median(self.values[name]) if self.values.get(name) else None

    def cell(self, name: str) -> str:
        """Median and, of several runs, the least and the greatest."""
        middle = self.middle(name)
        if middle is None:
            return "not readable" if name in self.values else ""
        text = f"{middle:.{self.digits}f}"
        found = self.values[name]
        return f"{text} ({min(found):.{self.digits}f}-{max(found):.{self.digits}f})" if len(found) > 1 else text

    def ratio(self) -> float | None:
        """The relay's median over sshd's."""
        sshd, relay = self.middle("sshd"), self.middle("relay")
        return relay / sshd if sshd and relay is not None else None

    def better(self) -> str:
        """Who is better, in one word."""
        ratio = self.ratio()
        if self.middle("sshd") == 0 and self.middle("relay"):
            return "relay" if self.more_is_better else "sshd"
        if ratio is None:
            return ""
        among = self._among("sshd", "relay") + self._among("relay", "sshd")
        noise = NOISE_P99 if " p99" in self.name else NOISE
        if abs(ratio - 1) <= (noise if among else EVEN) or among == 2:
            return "even"
        return "relay" if (ratio > 1) == self.more_is_better else "sshd"

    def verdict(self) -> str:
        """pass or MISS where there is a goal and what it is about was measured."""
        sshd, relay = self.middle("sshd"), self.middle("relay")
        if self.goal is None or relay is None or (sshd is None and not self.goal.alone):
            return ""
        return "pass" if self.goal.reached(sshd or 0.0, relay) else "MISS"

    def _among(self, name: str, other: str) -> bool:
        """Whether one's median lies between the least and the greatest of the other's runs."""
        middle = self.middle(name)
        return middle is not None and min(self.values[other]) <= middle <= max(self.values[other])


class Table:
    """The figures in the order in which they were first named."""

    def __init__(self) -> None:
        self._figures: dict[str, Figure] = {}

    def __getitem__(self, name: str) -> Figure:
        return self._figures[name]

    def add(
        self,
        jump: "JumpHost",
        name: str,
        value: float | None,
        *,
        more: bool = False,
        digits: int = 2,
        goal: Goal | None = None,
    ) -> None:
        """One run's value of the figure `name`; None: it could not be read."""
        figure = self._figures.setdefault(name, Figure(name, more, digits, goal))
        found = figure.values.setdefault(jump.name, [])
        if value is not None:
            found.append(value)

    def lines(self, first: str = "") -> list[str]:
        """The Markdown table; the goals' columns only where there are goals."""
        goals = any(figure.goal for figure in self._figures.values())
        heads = [first, "sshd", "this relay", "relay / sshd", "better", *(["goal", ""] if goals else [])]
        found = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
        for figure in self._figures.values():
            ratio = figure.ratio()
            cells = [figure.name, figure.cell("sshd"), figure.cell("relay")]
            cells += [_ratio(ratio) if ratio is not None else "", figure.better()]
            cells += [figure.goal.text if figure.goal else "", figure.verdict()] if goals else []
            found.append(f"| {' | '.join(cells)} |")
        return found

    def verdicts(self) -> list[str]:
        """Who is better at what and which goals are missed, in words."""
        found = []
        titles = {"sshd": "**sshd is better at**", "relay": "**The relay is better at**", "even": "Even"}
        for who, words in titles.items():
            named = [self._named(figure) for figure in self._figures.values() if figure.better() == who]
            found += [f"{words}: {'; '.join(named) or 'nothing measured here'}.", ""]
        judged = [figure for figure in self._figures.values() if figure.verdict()]
        missed = [self._named(figure) for figure in judged if figure.verdict() == "MISS"]
        if judged:
            found.append(f"**Goals**: {len(judged) - len(missed)} of {len(judged)} reached.")
        if missed:
            found[-1] += f" Missed: {'; '.join(missed)}."
        return found

    def _named(self, figure: Figure) -> str:
        ratio = figure.ratio()
        return f"{figure.name} ({_ratio(ratio)})" if ratio is not None else figure.name


def _ratio(value: float) -> str:
    """Of small ones a digit more."""
    return f"{value:.{2 if value >= 0.1 else 3}f}"

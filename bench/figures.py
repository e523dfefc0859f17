"""Figures of both jump hosts, as a Markdown table that says in words how the relay compares with sshd."""

import statistics
from dataclasses import dataclass, field
from typing import Protocol

EVEN = 0.05  # a ratio closer to 1 than this is even, and so is one that the spread of the runs explains
NOISE, NOISE_P99 = 0.15, 0.30  # how much sshd differs from a second sshd, measured with compare.py


class Named(Protocol):
    """A jump host, as far as a table needs it."""

    @property
    def name(self) -> str:
        """`sshd` or `relay`."""
        ...


@dataclass(slots=True)
class Figure:
    """One line of the table: the values of each jump host's runs."""

    name: str
    more_is_better: bool = False
    digits: int = 2
    values: dict[str, list[float]] = field(default_factory=dict)

    def median(self, name: str) -> float | None:
        """The median of a jump host's runs; None if it could not be measured."""
        return statistics.median(self.values[name]) if self.values.get(name) else None

    def cell(self, name: str) -> str:
        """The median and, of several runs, the least and the greatest value."""
        median = self.median(name)
        if median is None:
            return "not readable" if name in self.values else ""
        text = f"{median:.{self.digits}f}"
        runs = self.values[name]
        return f"{text} ({min(runs):.{self.digits}f}-{max(runs):.{self.digits}f})" if len(runs) > 1 else text

    def ratio(self) -> float | None:
        """The relay's median divided by sshd's."""
        sshd, relay = self.median("sshd"), self.median("relay")
        return relay / sshd if sshd and relay is not None else None

    def comparison(self) -> str:
        """How the relay compares with sshd: faster or slower, less or more; `even` within the noise."""
        ratio = self.ratio()
        if ratio is None:
            return self._words(better=False) if self.median("sshd") == 0 and self.median("relay") else ""
        within = self._within_runs("sshd", "relay") + self._within_runs("relay", "sshd")
        noise = NOISE_P99 if " p99" in self.name else NOISE
        if abs(ratio - 1) <= (noise if within else EVEN) or within == 2:
            return "even"
        return self._words(better=(ratio > 1) == self.more_is_better)

    def _words(self, *, better: bool) -> str:
        if "memory" in self.name or "CPU" in self.name:
            return "less" if better else "more"
        return "faster" if better else "slower"

    def _within_runs(self, name: str, other: str) -> bool:
        """Whether one jump host's median lies between the least and the greatest run of the other."""
        median = self.median(name)
        return median is not None and min(self.values[other]) <= median <= max(self.values[other])


class Table:
    """The figures, in the order in which they were first added."""

    def __init__(self) -> None:
        self._figures: dict[str, Figure] = {}

    def __getitem__(self, name: str) -> Figure:
        return self._figures[name]

    def add(self, jump: Named, name: str, value: float | None, *, more: bool = False, digits: int = 2) -> None:
        """Add the value of one run to the figure `name`; None: it could not be read."""
        figure = self._figures.setdefault(name, Figure(name, more, digits))
        runs = figure.values.setdefault(jump.name, [])
        if value is not None:
            runs.append(value)

    def lines(self) -> list[str]:
        """The Markdown table."""
        found = ["|  | sshd | this relay | relay / sshd | the relay is, or takes |", "|---|---|---|---|---|"]
        for figure in self._figures.values():
            ratio = figure.ratio()
            cells = [figure.name, figure.cell("sshd"), figure.cell("relay")]
            cells += [_ratio(ratio) if ratio is not None else "", figure.comparison()]
            found.append(f"| {' | '.join(cells)} |")
        return found


def _ratio(value: float) -> str:
    """Small ratios with one more digit."""
    return f"{value:.{2 if value >= 0.1 else 3}f}"

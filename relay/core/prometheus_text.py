"""Prometheus text format 0.0.4: metric families and their samples as text.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from relay.core.histogram import BOUNDS, Histogram

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class MetricFamily:
    """One metric with all its samples. `kind`: counter, gauge or histogram."""

    name: str
    kind: str
    meaning: str
    samples: list[tuple[str, Labels, float]] = field(default_factory=list)  # suffix, labels, value

    def put(self, value: float, **labels: str) -> "MetricFamily":
        """Add a sample."""
        self.samples.append(("", labels, value))
        return self

    def spread(self, histogram: Histogram, **labels: str) -> "MetricFamily":
        """Add the samples of a histogram: its buckets, sum and count."""
        counts = histogram.cumulative()
        for bound, count in zip((*BOUNDS, math.inf), counts, strict=True):
            self.samples.append(("_bucket", {**labels, "le": number(bound)}, count))
        self.samples.append(("_sum", labels, histogram.total))
        self.samples.append(("_count", labels, counts[-1]))
        return self


def render(families: Iterable[MetricFamily]) -> str:
    """The page with all families. Raises ValueError for an invalid name."""
    lines = []
    for family in families:
        meaning = family.meaning.replace("\\", r"\\").replace("\n", r"\n")
        lines += [f"# HELP {_valid_name(family.name)} {meaning}", f"# TYPE {family.name} {family.kind}"]
        for suffix, labels, value in family.samples:
            shown = ",".join(f'{_valid_name(key)}="{_quoted(text)}"' for key, text in labels.items())
            lines.append(
                f"{family.name}{suffix}{{{shown}}} {number(value)}"
                if shown
                else f"{family.name}{suffix} {number(value)}"
            )
    return "\n".join([*lines, ""])


def number(value: float) -> str:
    """A number in the syntax of Go's ParseFloat, which Prometheus uses."""
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if math.isnan(value):
        return "NaN"
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(float(value))


def _valid_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a valid name of a metric or label")
    return name


def _quoted(text: str) -> str:
    text = text.encode("utf-8", "replace").decode()
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")

"""Prometheus' text format, read back by a parser of the test's own."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.histogram import BOUNDS, Histogram
from relay.core.prometheus_text import MetricFamily, number, render
from tests.prometheus import parse


def test_a_page() -> None:
    """Help, type and samples, in this order, with a newline at the end."""
    page = render(
        [MetricFamily("relay_bytes_total", "counter", "Bytes.").put(7, direction="sent").put(1.5, direction="received")]
    )
    assert page == (
        "# HELP relay_bytes_total Bytes.\n# TYPE relay_bytes_total counter\n"
        'relay_bytes_total{direction="sent"} 7\nrelay_bytes_total{direction="received"} 1.5\n'
    )


def test_a_histogram() -> None:
    """Cumulative buckets up to +Inf, the sum and the count."""
    histogram = Histogram()
    histogram.observe(0.3)
    histogram.observe(60)
    samples = parse(render([MetricFamily("x_seconds", "histogram", "X.").spread(histogram, zone="a")]))[
        "x_seconds"
    ].samples
    assert samples["x_seconds_bucket", (("le", "0.25"), ("zone", "a"))] == 0
    assert samples["x_seconds_bucket", (("le", "0.5"), ("zone", "a"))] == 1
    assert samples["x_seconds_bucket", (("le", "+Inf"), ("zone", "a"))] == 2
    assert samples["x_seconds_sum", (("zone", "a"),)] == pytest.approx(60.3)
    assert samples["x_seconds_count", (("zone", "a"),)] == 2
    assert len(samples) == len(BOUNDS) + 3


@given(st.text(), st.text())
def test_any_text_is_a_label(text: str, meaning: str) -> None:
    """Quotes, backslashes, newlines and lone surrogates neither end a line nor a label."""
    page = render([MetricFamily("x", "gauge", meaning).put(1, label=text)])
    assert len(re.findall("\n", page)) == 3
    samples = parse(page)["x"].samples
    assert samples == {("x", (("label", text.encode("utf-8", "replace").decode()),)): 1}


@pytest.mark.parametrize("name", ["", "1x", "a-b", "a b", 'a"', "é", "a\n"])
def test_what_is_no_name_is_refused(name: str) -> None:
    """Names of metrics and labels are ours; one that breaks the format is a bug."""
    with pytest.raises(ValueError, match="is not a valid name"):
        render([MetricFamily(name, "gauge", "")])
    with pytest.raises(ValueError, match="is not a valid name"):
        render([MetricFamily("x", "gauge", "").put(1, **{name: "v"})])


@given(st.floats() | st.integers())
def test_numbers_are_read_back(value: float) -> None:
    """Nothing is rounded."""
    read = float(number(value))
    assert (math.isnan(read) and math.isnan(value)) or read == pytest.approx(value)

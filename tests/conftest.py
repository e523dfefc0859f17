"""What every test shares: the same hypothesis examples everywhere, and no test that is skipped in silence."""

import os
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

# derandomised, so CI and a laptop see the same examples; `make fuzz` takes the other one
settings.register_profile(
    "ci", derandomize=True, deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow], database=None
)
settings.register_profile("fuzz", deadline=None, max_examples=20_000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("RELAY_HYPOTHESIS", "ci"))

# `make test STRICT=1` and .ci/run: a machine that lacks what a test needs is a failure there, not a green run
STRICT = os.environ.get("RELAY_STRICT", "") not in ("", "0")


def _refuse_a_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if STRICT and report.skipped and not hasattr(report, "wasxfail"):
        why = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{why}\nskipped, and RELAY_STRICT=1 takes no skipped test"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skipped test is a failed one under RELAY_STRICT=1."""
    report = yield
    _refuse_a_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """So is a file that skips itself while it is collected."""
    report = yield
    _refuse_a_skip(report)
    return report

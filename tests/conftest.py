"""What every test shares: the same hypothesis examples everywhere, and no test that is skipped in silence."""

import os
import signal
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

# derandomised, so CI and a laptop see the same examples; `make fuzz` takes the other one
settings.register_profile(
    "ci", derandomize=True, deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow], database=None
)
settings.register_profile("quick", settings.get_profile("ci"), max_examples=15)  # the inner loop
settings.register_profile("fuzz", deadline=None, max_examples=20_000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("RELAY_HYPOTHESIS", "ci"))

# A program inherits what is ignored, and a script's shell starts what runs in its background with SIGINT ignored: then
# nothing that a test starts could be ended by it
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# `make test STRICT=1` and .ci/run: a machine that lacks what a test needs is a failure there, not a green run
STRICT = os.environ.get("RELAY_STRICT", "") not in ("", "0")


# A test that starts a relay takes a second or two, on a busy machine five: in the inner loop one file of them is enough
STARTS_A_RELAY = "tests.relay_process"
QUICK_ALL_THE_SAME = "test_first_jump.py"


# What takes longest begins first, so that no worker is left with it alone at the end
LONGEST = (
    "installing",
    "floods-junk",
    "tests/net/apply/test_transaction.py",
    "tests/serve/test_restart.py",
    "floods-rekey",
    "serve-floods",
    "lab-plan",
)


def _group(item: pytest.Item) -> str:
    """Whose tests one worker runs, one after the other: those that share what is made once for their file."""
    if (mark := item.get_closest_marker("xdist_group")) is not None:
        return str(mark.args[0])
    info = getattr(item, "_fixtureinfo", None)
    made = [definitions[-1] for definitions in info.name2fixturedefs.values()] if info else []
    shared = any(one.scope == "module" and one.baseid.startswith("tests") for one in made)
    return f"{item.path.parent.name}-{item.path.stem.removeprefix('test_')}" if shared else ""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks tests that start a relay as slow, so that nobody has to remember it; groups and orders the rest."""
    places = {}
    for place, item in enumerate(items):
        names = vars(getattr(item, "module", None) or object).values()
        starts = any(getattr(value, "__module__", "") == STARTS_A_RELAY for value in names)
        if starts and item.path.name != QUICK_ALL_THE_SAME:
            item.add_marker(pytest.mark.slow)
        group = _group(item)
        if group and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(group))
        waits = bool(item.get_closest_marker("slow") or item.get_closest_marker("system"))
        long = next(
            (at for at, name in enumerate(LONGEST) if name in (group, item.nodeid.split("::")[0])), len(LONGEST)
        )
        places[item] = (long, not waits, place)
    items.sort(key=places.__getitem__)


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

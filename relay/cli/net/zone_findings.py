"""Findings of `relayctl doctor` about the path into every zone and about this machine's guard."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from relay.cli.net.verify import path_requests
from relay.cli.net.zones import PlannedZones
from relay.cli.output import waiting
from relay.core.escape import escape
from relay.net.diagnose import guard_check, path_check
from relay.net.diagnose.path_check import PathCheckRequest
from relay.net.diagnose.path_verdict import Leg
from relay.net.kernel import netlink

_AT_ONCE = 16  # zones checked in parallel: most of the time they wait
SECONDS = 45.0  # for all of them: a zone in which all is silent takes some 15

State = Literal["ok", "warning", "fault"]
ZoneFinding = tuple[str, State, str, str]  # zone, state, what, cure


def path_findings(zones: PlannedZones) -> Iterator[ZoneFinding]:
    """Findings about the path into each zone; for a zone that is well, its figures in one line.

    Raises RelayError off Linux.
    """
    requests = path_requests(zones) if zones.plan.overlays else []
    deadline = time.monotonic() + SECONDS
    pool = ThreadPoolExecutor(_AT_ONCE, "check")
    try:
        for request, check in [(request, pool.submit(_legs, request)) for request in requests]:
            try:
                with waiting(f"answers from {request.zone.name}"):
                    legs = check.result(max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                name = request.zone.name
                yield name, "warning", f"not checked within {SECONDS:g} s", f"sudo relayctl net verify {name}"
                continue
            yield from summarize(request, legs)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def guard_findings(zones: PlannedZones) -> Iterator[tuple[State, str, str]]:
    """(state, what, cure) of each result of `check_guard` on this machine; `skipped` is shown as a warning."""
    for leg in guard_check.check_guard(zones.plan):
        yield "warning" if leg.state == "skipped" else leg.state, escape(leg.what, 400), escape(leg.cure, 400)


def summarize(request: PathCheckRequest, legs: Sequence[Leg]) -> Iterator[ZoneFinding]:
    """The legs that are not well; if none is broken, a line for those that are."""
    name = request.zone.name
    if not any(leg.broken for leg in legs):
        well = {leg.name: leg.what for leg in legs if leg.state == "ok"}
        what = [well[part] for part in ("gateway", "target") if part in well] or [well.get("route", "it is there")]
        out = [leg.name for leg in legs if leg.state == "skipped"]
        left = f" (left out: {', '.join(dict.fromkeys(out))}; relayctl net verify says why)" if out else ""
        yield name, "ok", f"{escape('; '.join(what), 400)}{left}", ""
    for leg in legs:
        if leg.state == "warning" or leg.state == "fault":  # noqa: PLR1714 - mypy narrows no set
            yield name, leg.state, f"{leg.name}: {escape(leg.what, 400)}", escape(leg.cure, 400)


def _legs(request: PathCheckRequest) -> list[Leg]:
    try:
        return list(path_check.path_legs(request))
    finally:
        netlink.close_thread_socket()  # this thread's socket

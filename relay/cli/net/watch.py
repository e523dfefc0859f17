"""`relayctl net status --watch`: every zone observed every two seconds, each in a thread of its own."""

import json
import shutil
import sys
import threading
import time
from collections.abc import Sequence

import click

from relay.cli.net.zone_text import facts, zone_block, zone_json
from relay.cli.net.zones import PlannedZones
from relay.core.escape import escape
from relay.core.network_plan import Overlay
from relay.errors import RelayError
from relay.net.diagnose.diagnosis import Diagnosis, diagnose
from relay.net.diagnose.observation import Observation, Role
from relay.net.diagnose.observe import ZoneObserver

EVERY = 2.0  # seconds between two observations, and between two drawings
_SOON = 0.2
_LATE = 3 * EVERY  # an observation older than this is marked with its age


class _ZoneThread(threading.Thread):
    """Observes one zone repeatedly. A daemon thread, so that Ctrl-C does not wait for it."""

    def __init__(self, observer: ZoneObserver, plan: PlannedZones) -> None:
        super().__init__(name=f"look at {observer.overlay.zone.name}", daemon=True)
        self.overlay = observer.overlay
        self.last: tuple[float, Observation, tuple[Diagnosis, ...]] | None = None  # set whole, so read without a lock
        self.error: RelayError | None = None
        self._observer = observer
        self._plan = plan.plan

    def run(self) -> None:
        """Observe, then wait for the rest of the two seconds."""
        while True:
            start = time.monotonic()
            try:
                seen = self._observer.observe()
            except RelayError as error:  # not Linux: the next one would fail too
                self.error = error
                return
            found = diagnose(seen, self._observer.overlay, role=self._observer.role, plan=self._plan)
            self.last = time.monotonic(), seen, found
            time.sleep(max(0.0, start + EVERY - time.monotonic()))


def watch_zones(zones: PlannedZones, chosen: Sequence[Overlay], role: Role, *, as_json: bool) -> int:
    """Show the zones until Ctrl-C: redrawn on a terminal, else only changed lines, or one line of JSON each time.

    Gives 1 when a zone is not well at the end, else 0. Raises RelayError off Linux.
    """
    threads = [
        _ZoneThread(ZoneObserver(overlay, zones.host(overlay.zone.name), role=role), zones) for overlay in chosen
    ]
    for thread in threads:
        thread.start()
    terminal = sys.stdout.isatty() and not as_json
    shown: dict[tuple[str, str, int], str] = {}
    try:
        while True:
            # until each zone was seen once, it is shown as soon as it is
            time.sleep(EVERY if all(thread.last for thread in threads) else _SOON)
            for thread in threads:
                if thread.error is not None:
                    raise thread.error
            if terminal:
                _draw(threads, role)
            elif as_json:
                _json(threads)
            else:
                _changes(threads, role, shown)
    except KeyboardInterrupt:
        click.echo("", err=True)
    return 1 if any(thread.last and thread.last[2][0].state == "fault" for thread in threads) else 0


def _draw(threads: Sequence[_ZoneThread], role: Role) -> None:
    """Draw the whole screen over the old one: clearing it first would flicker."""
    width, height = shutil.get_terminal_size()
    lines = [click.style(f"{time.strftime('%H:%M:%S')}  every {EVERY:.0f} s, Ctrl-C ends", dim=True), ""]
    for thread in threads:
        if thread.last is None:
            lines += [f"{thread.overlay.zone.name}  looking ...", ""]
            continue
        at, seen, found = thread.last
        head, *rest = zone_block(thread.overlay, seen, found, role)
        age = time.monotonic() - at
        lines += [head + (f"  (as of {age:.0f} s ago)" if age > _LATE else ""), *rest, ""]
    fitting, rows = [], 0
    for line in lines:
        rows += max(1, -(-len(click.unstyle(line)) // width))  # a long cure may fold: it is there to be copied
        if rows > height - 2:
            fitting.append("... more than fits here: relayctl net status ZONE --watch")
            break
        fitting.append(line)
    body = "".join(f"{line}\x1b[K\n" for line in fitting)
    click.echo(f"\x1b[H{body}\x1b[J", nl=False)


def _changes(threads: Sequence[_ZoneThread], role: Role, shown: dict[tuple[str, str, int], str]) -> None:
    """The lines that are other than they were, figures aside."""
    now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    for thread in threads:
        if thread.last is None:
            continue
        _, seen, found = thread.last
        name = thread.overlay.zone.name
        still = list(facts(thread.overlay, seen, role, figures=False))
        still += [(each.state, each.name + (f" -> {each.cure}" if each.cure else "")) for each in found]
        full = list(facts(thread.overlay, seen, role))
        full += [
            (each.state, escape(each.what, 500) + (f" -> {escape(each.cure, 500)}" if each.cure else ""))
            for each in found
        ]
        count: dict[str, int] = {}
        new: dict[tuple[str, str, int], str] = {}
        for (label, key), (_, text) in zip(still, full, strict=True):
            place = (name, label, count.setdefault(label, 0))
            count[label] += 1
            new[place] = key
            if shown.get(place) != key:
                click.echo(f"{now} {name} {label}: {text}")
        for place in [place for place in shown if place[0] == name and place not in new]:
            if place[1] not in {"ok", "warning", "fault"}:
                click.echo(f"{now} {name} {place[1]}: gone")
            del shown[place]
        shown.update(new)
    sys.stdout.flush()


def _json(threads: Sequence[_ZoneThread]) -> None:
    zones = [zone_json(thread.overlay, thread.last[1], thread.last[2]) for thread in threads if thread.last is not None]
    click.echo(json.dumps({"time": int(time.time() * 1e6), "zones": zones}, default=str))
    sys.stdout.flush()

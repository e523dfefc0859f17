"""Unused rules, hosts, persons and keys of the site, with the commands that remove them."""

import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from relay.core.policy.site_item import SiteItem
from relay.review.activity_summary import ActivitySummary
from relay.review.first_seen import SeenItems, text


@dataclass(frozen=True, slots=True)
class UnusedItem:
    """A rule, host, person or key without a trace in the window."""

    holding: SiteItem
    last: int | None  # UTC microseconds: when it was used before the window, None: never in this log

    def remedy(self, site: str) -> str:
        """The command that removes it; a hint where other entries share its lines."""
        held = self.holding
        file = shlex.quote(f"{site}/{held.file}")
        if held.kind == "person":
            return f"rm {file}"
        lines = f"{held.first},{held.last}" if held.last > held.first else str(held.first)
        return f"# edit {held.place}: other entries share the line" if held.shared else f"sed -i {lines}d {file}"


def unused_items(holdings: Iterable[SiteItem], summary: ActivitySummary, past: SeenItems) -> tuple[UnusedItem, ...]:
    """The items of `holdings` that the summary does not mention, from the bottom of each file up.

    In that order line numbers stay right while items are deleted. A key that was added within the window does not count
    as unused, and neither does a person whose keys were all added in it.
    """
    added = {text(row.event.fields, "fingerprint") for row in summary.notable if row.event.name == "key.added"}
    held = tuple(holdings)
    old = {one.owner for one in held if one.kind == "key" and one.name not in added}
    found = []
    for one in held:
        if (one.kind == "key" and one.name in added) or (one.kind == "person" and one.name not in old):
            continue
        if _last(one, summary.seen) is None:
            found.append(UnusedItem(one, _last(one, past)))
    return tuple(
        sorted(found, key=lambda found: (_ORDER.index(found.holding.kind), found.holding.file, -found.holding.first))
    )


_ORDER = ("person", "key", "host", "rule", "deny rule")


def _last(one: SiteItem, seen: SeenItems) -> int | None:
    match one.kind:
        case "person":
            return seen.persons.get(one.name)
        case "key":
            return seen.keys.get((one.owner, one.name))
        case "host":
            return seen.places.get((one.zone, one.address))
        case _:
            return seen.rules.get(one.name)

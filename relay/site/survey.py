"""Is everything about a site as it should be? Its files, its keys, what lapses soon, and what is not applied yet."""

from collections.abc import Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from relay.core.keyring import Keyring
from relay.core.text import escape
from relay.errors import Fault, RelayError
from relay.site import compile as compiler
from relay.site import difference, keyring, network, times
from relay.site.compile import Examination
from relay.site.difference import Difference
from relay.site.locate import Site
from relay.site.merge import SOON

NOTHING_APPLIED = "nothing was applied yet: the relay takes these files when it starts"


@dataclass(frozen=True, slots=True)
class Survey:
    """The answer. `good` is False for any fault or failing expectation; warnings and differences are no faults."""

    examination: Examination
    keys: Keyring
    faults: tuple[Fault, ...]
    warnings: tuple[Fault, ...]
    differences: tuple[Difference, ...]
    note: str  # why the differences are not known; ""

    @property
    def good(self) -> bool:
        """Whether the site could be applied as it is, and every key line gets in."""
        return not self.faults and not self.examination.failures


def look(site: Site, *, now: int) -> Survey:
    """Look at the site at `now` (Unix seconds). Raises nothing for whatever its files hold."""
    examination = compiler.examine(site.path, now=now)
    zone = ZoneInfo(examination.settings.timezone)
    bits = examination.settings.limits.rsa_bits
    keys = keyring.read(site.path, offsets=times.offsets(zone, now), rsa_bits=bits)
    compiled = examination.compiled
    _, planned = network.examine(site.path, compiled.policy.inventory.zones.values() if compiled else None)
    differences: tuple[Difference, ...] = ()
    note = ""
    try:
        applied = difference.read(site.state)
    except RelayError as error:
        note = error.what
    else:
        if applied is None:
            note = NOTHING_APPLIED
        else:
            differences = difference.of_texts(applied.texts, examination.texts)
            if applied.keyring is not None:
                differences += difference.of_keys(applied.keyring, keys)
    return Survey(
        examination,
        keys,
        tuple(sorted({*examination.faults, *keys.faults, *planned})),
        tuple(sorted({*examination.warnings, *keys.warnings, *_lapsing(keys, zone, now)})),
        differences,
        note,
    )


def _lapsing(keys: Keyring, zone: ZoneInfo, now: int) -> Sequence[Fault]:
    found = []
    for key in keys.keys.values():
        if key.expires is None or key.expires > now + SOON:
            continue
        when = times.local_text(key.expires, zone)
        days = -(-(key.expires - now) // 86400)
        said = f"expired at {when}" if key.expires <= now else f"expires in {days} days, at {when}"
        what = f"a key of {escape(key.person, 40)} {said}"
        found.append(Fault(key.file, key.line, what, "extend its expiry-time= or remove the line"))
    return found

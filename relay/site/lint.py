"""The checks of `relayctl check`: files, keys, what expires soon, and what is not applied yet."""

from collections.abc import Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from relay.core.escape import escape
from relay.core.keys.keyring import Keyring
from relay.errors import Fault, RelayError
from relay.site import diff, key_files, network_file, times
from relay.site.diff import Difference
from relay.site.locate import Site
from relay.site.policy import compiler
from relay.site.policy.compiler import Examination
from relay.site.policy.merge import SOON

NOTHING_APPLIED = "nothing was applied yet: the relay reads these files when it starts"


@dataclass(frozen=True, slots=True)
class LintResult:
    """The findings. `good` is False for any fault or failed expectation; warnings and differences are no faults."""

    examination: Examination
    keys: Keyring
    faults: tuple[Fault, ...]
    warnings: tuple[Fault, ...]
    differences: tuple[Difference, ...]
    note: str  # why the differences are unknown, else ""

    @property
    def good(self) -> bool:
        """Whether the site can be applied and all key lines are valid."""
        return not self.faults and not self.examination.failures


def check_site(site: Site, *, now: int) -> LintResult:
    """Check the site at `now` (Unix seconds). Faults in its files are findings, not exceptions."""
    examination = compiler.examine(site.path, now=now)
    zone = ZoneInfo(examination.settings.timezone)
    bits = examination.settings.limits.rsa_bits
    keys = key_files.read(site.path, offsets=times.offsets(zone, now), rsa_bits=bits)
    compiled = examination.compiled
    _, planned = network_file.examine(site.path, compiled.policy.inventory.zones.values() if compiled else None)
    differences: tuple[Difference, ...] = ()
    note = ""
    try:
        applied = diff.read(site.state)
    except RelayError as error:
        note = error.what
    else:
        if applied is None:
            note = NOTHING_APPLIED
        else:
            differences = diff.of_texts(applied.texts, examination.texts)
            if applied.keyring is not None:
                differences += diff.of_keys(applied.keyring, keys)
    return LintResult(
        examination,
        keys,
        tuple(sorted({*examination.faults, *keys.faults, *planned})),
        tuple(sorted({*examination.warnings, *keys.warnings, *_expiring(keys, zone, now)})),
        differences,
        note,
    )


def _expiring(keys: Keyring, zone: ZoneInfo, now: int) -> Sequence[Fault]:
    warnings = []
    for key in keys.keys.values():
        if key.expires is None or key.expires > now + SOON:
            continue
        when = times.local_text(key.expires, zone)
        days = -(-(key.expires - now) // 86400)
        expiry = f"expired at {when}" if key.expires <= now else f"expires in {days} days, at {when}"
        what = f"a key of {escape(key.person, 40)} {expiry}"
        warnings.append(Fault(key.file, key.line, what, "extend its expiry-time= or remove the line"))
    return warnings

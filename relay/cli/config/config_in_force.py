"""What is in force, as far as a command can tell? What is applied, else what the files say, else nothing.

A command about keys must work with broken files, so nothing here raises for them: what is missing is in `notes`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from relay.core.keys.keyring import Keyring
from relay.core.policy.policy import EMPTY, Policy
from relay.core.policy.reachable_targets import Reachable, reach
from relay.core.policy.time_conditions import Offsets
from relay.errors import RelayError
from relay.site import diff, key_files
from relay.site.locate import Site


@dataclass(frozen=True, slots=True)
class ConfigInForce:
    """The keys in the files, and the policy and keys that are applied (None: nothing is, or it cannot be read)."""

    files: Keyring
    applied: Keyring | None
    policy: Policy  # EMPTY when neither what is applied nor the files give one
    offsets: Offsets
    rsa_bits: int
    notes: tuple[str, ...]
    reread: Callable[[], Keyring]

    @property
    def groups(self) -> frozenset[str]:
        """The names of the policy's groups."""
        return frozenset(self.policy.groups)

    def reach(self, person: str) -> tuple[Reachable, ...]:
        """What the person may reach now by the rules, from an address that no rule names."""
        return tuple(reach(self.policy, person, None, int(time.time())))

    def persons(self) -> frozenset[str]:
        """Everybody whom a key or a rule names."""
        return frozenset(key.person for key in self.files.keys.values()) | frozenset(self.policy.index.persons)


def of(site: Site) -> ConfigInForce:
    """The configuration in force of a site. Faults in its files raise nothing."""
    from relay.site import times
    from relay.site.policy import compiler

    now = int(time.time())
    notes = []
    examination = compiler.examine(site.path, now=now)
    offsets = times.offsets(ZoneInfo(examination.settings.timezone), now)
    bits = examination.settings.limits.rsa_bits

    def read() -> Keyring:
        return key_files.read(site.path, offsets=offsets, rsa_bits=bits)

    applied_keys, policy = None, None
    try:
        applied = diff.read(site.state)
        if applied is not None:
            applied_keys, policy = applied.keyring, applied.policy()
    except RelayError as error:
        notes.append(error.what)
    if policy is None and examination.compiled is not None:
        policy = examination.compiled.policy
    elif policy is None:
        notes.append("the policy has faults, and nothing was applied before: relayctl check")
    return ConfigInForce(read(), applied_keys, policy or EMPTY, offsets, bits, tuple(notes), read)


def applied_keys(site: Site) -> tuple[Keyring, ...]:
    """The applied keys alone, without a look at the policy's files; none when they cannot be read."""
    try:
        applied = diff.read(site.state)
    except RelayError:
        return ()
    return () if applied is None or applied.keyring is None else (applied.keyring,)

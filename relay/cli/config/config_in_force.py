"""The configuration in force for a command: the running one, else the site's files, else nothing.

Commands about keys must work with invalid files, so these cause notes instead of exceptions.
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
    """The keys in the files, and the running policy and keys (`applied` None: none, or unreadable)."""

    files: Keyring
    applied: Keyring | None
    policy: Policy  # EMPTY without a running or a valid policy
    offsets: Offsets
    rsa_bits: int
    notes: tuple[str, ...]
    reread: Callable[[], Keyring]

    @property
    def groups(self) -> frozenset[str]:
        """The names of the policy's groups."""
        return frozenset(self.policy.groups)

    def reach(self, person: str) -> tuple[Reachable, ...]:
        """The targets of a person now by the rules, from an address that no rule names."""
        return tuple(reach(self.policy, person, None, int(time.time())))

    def persons(self) -> frozenset[str]:
        """All persons with a key or a rule."""
        return frozenset(key.person for key in self.files.keys.values()) | frozenset(self.policy.index.persons)


def load(site: Site) -> ConfigInForce:
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
    """The running keyring, without reading the policy's files; empty if it is unreadable."""
    try:
        applied = diff.read(site.state)
    except RelayError:
        return ()
    return () if applied is None or applied.keyring is None else (applied.keyring,)

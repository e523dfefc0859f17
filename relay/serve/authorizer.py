"""What is allowed now: the applied policy, keys and settings of a worker, replaced whole and never half.

Slices arrive from the supervisor and are loaded one by one (each well under 2 ms), so a new policy of 10,000
rules never stalls a stream; the switch is one assignment, and the old policy is taken apart in slices too.
"""

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from ipaddress import ip_address
from typing import NamedTuple

from relay.core import settings as settings_module
from relay.core.keys import authorized_keys as key_rules
from relay.core.keys import keyring as keyrings
from relay.core.keys.authorized_keys import Key
from relay.core.keys.keyring import Keyring
from relay.core.policy import policy as policies
from relay.core.policy import snapshot
from relay.core.policy.model import Address, Decision, Destination, Identity, Reason, Zone
from relay.core.policy.policy import Policy
from relay.core.policy.target import Target
from relay.core.settings import Settings
from relay.errors import RelayError
from relay.net.kernel import interfaces
from relay.serve.ipc import Message

OWN_SECONDS = 5.0  # how long the list of this machine's addresses is believed


class Revocation(NamedTuple):
    """Why something that is open may not go on: a stable word of the audit log, and the rest for the operator."""

    reason: str
    detail: str


class DecisionInputs(NamedTuple):
    """All that a judgement depends on beside who asks for what (see Law.is_still).

    The values themselves and no count of their changes, so nobody can forget to count. Each is replaced, not changed.
    """

    policy: Policy
    keyring: Keyring
    frozen: Mapping[str, int]
    own: frozenset[Address]
    second: int  # Unix seconds: no rule, key or freeze begins or ends within one


class Authorizer:
    """The one place of a worker that answers "may this key reach that, now?"."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self.settings = Settings()
        self.policy: Policy = policies.EMPTY
        self.keyring = Keyring()
        self.frozen: dict[str, int] = {}  # fingerprint -> until, Unix seconds
        self._changed = changed
        self._policy_loader = snapshot.SnapshotLoader()
        self._key_loader = keyrings.KeyringLoader()
        self._own: frozenset[Address] = frozenset()
        self._own_at = float("-inf")
        self._listening: tuple[tuple[Address, int], ...] = ()
        self._own_addresses()  # opens the kernel's socket before the first forward wants it

    def decide(self, identity: Identity, target: Target | Destination) -> Decision:
        """Judge one forward by the law of this moment (see core.policy.policy.judge)."""
        if self.is_frozen(identity.fingerprint):
            return Decision(
                reason=Reason.KEY_FROZEN, detail=f"the key is frozen until {self.frozen[identity.fingerprint]}"
            )
        key: Key | None = self.keyring.keys.get(identity.fingerprint)
        if key is not None and key.person != identity.person:
            key = None  # the key changed hands since this connection proved it
        verdict = self.policy.judge(identity, key, target, int(time.time()), self._own_addresses())
        if verdict.reason is Reason.KEY_UNLISTED and identity.fingerprint in self.keyring.revocations:
            return replace(verdict, reason=Reason.KEY_REVOKED)
        return verdict

    def inputs(self) -> DecisionInputs:
        """What is judged by now."""
        return DecisionInputs(self.policy, self.keyring, self.frozen, self._own_addresses(), int(time.time()))

    def is_unchanged(self, inputs: DecisionInputs) -> bool:
        """Whether everything is judged now as it was at that moment."""
        policy, keyring, frozen, own, second = inputs
        same = policy is self.policy and keyring is self.keyring and frozen is self.frozen
        return same and second == int(time.time()) and own == self._own_addresses()

    def revocation(self, identity: Identity, destination: Destination, zone: Zone | None) -> Revocation | None:
        """Why a forward may not go on; None while it may. `zone` is as it was at the dial, None before that."""
        verdict = self.decide(identity, destination)
        if not verdict.allowed:
            return Revocation(verdict.reason.value, verdict.detail)
        now = self.policy.inventory.zones.get(destination.zone)
        if zone is None or (now is not None and (zone.interface, zone.gateway) == (now.interface, now.gateway)):
            return None
        return Revocation("policy-changed", f"{destination.zone} is reached another way now")

    def key_revocation(self, identity: Identity) -> Revocation | None:
        """Why a connection may not go on whatever it is used for: its key; None while it may."""
        if self.is_frozen(identity.fingerprint):
            return Revocation(Reason.KEY_FROZEN.value, f"the key {identity.fingerprint} is frozen")
        key = self.keyring.keys.get(identity.fingerprint)
        if key is None and identity.fingerprint in self.keyring.revocations:
            return Revocation(Reason.KEY_REVOKED.value, f"the key {identity.fingerprint} is revoked")
        if key is None or key.person != identity.person:
            text = f"the key {identity.fingerprint} is not listed for {identity.person} any more"
            return Revocation(Reason.KEY_UNLISTED.value, text)
        refusal = key_rules.login_refusal(key, identity, int(time.time()))
        return None if refusal is None else Revocation(refusal[0].value, refusal[1])

    def is_frozen(self, fingerprint: str) -> bool:
        """Whether that key is shut out for a while."""
        return self.frozen.get(fingerprint, 0) > time.time()

    def freeze(self, keys: Mapping[str, int]) -> None:
        """These keys are frozen, each until that Unix second, and no others."""
        self.frozen = dict(keys)
        self._changed()

    def load(self, message: Message) -> bool:
        """Load one slice of `settings`, `policy` or `keys`; True when something is complete and in force."""
        kind = message["t"]
        if kind == "settings":
            self.settings = settings_module.settings_from_json(message["settings"])
            self._listening = tuple((ip_address(address), int(port)) for address, port in message["listening"])
            self.policy = self._with_listeners(self.policy)
            return True
        if kind == "policy":
            if message.get("first"):
                self._policy_loader = snapshot.SnapshotLoader()
            for line in message["lines"]:
                self._policy_loader.feed(line)
            if not message.get("last"):
                return False
            self.policy = self._with_listeners(self._policy_loader.finish())
            self._policy_loader = snapshot.SnapshotLoader()
        else:
            if message.get("first"):
                self._key_loader = keyrings.KeyringLoader()
            for line in message["lines"]:
                self._key_loader.feed(line)
            if not message.get("last"):
                return False
            self.keyring = self._key_loader.finish()
            self._key_loader = keyrings.KeyringLoader()
        gc.freeze()  # what lives for days is not looked through by every collection
        self._changed()
        return True

    def narrow(self, files: Keyring) -> None:
        """Take out the keys that are not in the files any more, or revoked there."""
        self.keyring = keyrings.narrowed(self.keyring, files)
        self._changed()

    def _with_listeners(self, policy: Policy) -> Policy:
        """The policy with the sockets that are really listened at, whatever `listen` says (systemd's may differ)."""
        extra = tuple((None if address.is_unspecified else address, port) for address, port in self._listening)
        known = policy.forbidden.listeners
        listeners = known + tuple(one for one in extra if one not in known)
        return replace(policy, forbidden=replace(policy.forbidden, listeners=listeners))

    def _own_addresses(self) -> frozenset[Address]:
        now = time.monotonic()
        if now - self._own_at > OWN_SECONDS:
            self._own_at = now
            try:
                self._own = interfaces.own_addresses()
            except (OSError, RelayError):
                # not Linux, or the kernel is short of memory: the last answer stays. Should there be none yet, the
                # route guard refuses this machine's own addresses all the same (their routes are of type local)
                return self._own
        return self._own

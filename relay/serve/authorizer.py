"""The policy decision point: whether a key may reach a target now, by the running configuration.

Policy, keys and settings arrive from the supervisor in parts, each loaded in well under 2 ms, so a policy of 10,000
rules never stalls a stream. The switch to a new one is one assignment: it is in force completely or not at all.
"""

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from ipaddress import ip_address
from typing import NamedTuple

from relay.core.keys.authorized_keys import Key, login_refusal
from relay.core.keys.keyring import Keyring, KeyringLoader, narrowed
from relay.core.policy.model import Address, Decision, Destination, Identity, Reason, Zone
from relay.core.policy.policy import EMPTY, Policy
from relay.core.policy.snapshot import SnapshotLoader
from relay.core.policy.target import Target
from relay.core.settings import Settings, settings_from_json
from relay.errors import RelayError
from relay.net.kernel import interfaces
from relay.serve.ipc import Message

OWN_ADDRESSES_SECONDS = 5.0  # how long the list of this machine's addresses is reused


class Revocation(NamedTuple):
    """Why something that is open must end: a stable word of the audit log, and a detail for the operator."""

    reason: str
    detail: str


class DecisionInputs(NamedTuple):
    """Everything that a decision depends on besides identity and target (see `is_unchanged`).

    The values themselves, not a version number that a change might forget to increase. Each is replaced as a whole.
    """

    policy: Policy
    keyring: Keyring
    frozen: Mapping[str, int]
    own: frozenset[Address]
    second: int  # Unix seconds: no rule, key or freeze begins or ends within one


class Authorizer:
    """The running configuration of a worker, and the decisions by it."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self.settings = Settings()
        self.policy: Policy = EMPTY
        self.keyring = Keyring()
        self.frozen: dict[str, int] = {}  # fingerprint -> until, Unix seconds
        self._changed = changed
        self._policy_loader = SnapshotLoader()
        self._key_loader = KeyringLoader()
        self._own: frozenset[Address] = frozenset()
        self._own_at = float("-inf")
        self._listening: tuple[tuple[Address, int], ...] = ()
        self._own_addresses()  # opens the kernel's socket before the first forward wants it

    def decide(self, identity: Identity, target: Target | Destination) -> Decision:
        """Decide about one forward, by the running configuration (see core.policy.policy)."""
        if self.is_frozen(identity.fingerprint):
            return Decision(
                reason=Reason.KEY_FROZEN, detail=f"the key is frozen until {self.frozen[identity.fingerprint]}"
            )
        key: Key | None = self.keyring.keys.get(identity.fingerprint)
        if key is not None and key.person != identity.person:
            key = None  # the key changed hands since this connection proved it
        decision = self.policy.decide(identity, key, target, int(time.time()), self._own_addresses())
        if decision.reason is Reason.KEY_UNLISTED and identity.fingerprint in self.keyring.revocations:
            return replace(decision, reason=Reason.KEY_REVOKED)
        return decision

    def inputs(self) -> DecisionInputs:
        """What decisions depend on now."""
        return DecisionInputs(self.policy, self.keyring, self.frozen, self._own_addresses(), int(time.time()))

    def is_unchanged(self, inputs: DecisionInputs) -> bool:
        """Whether a decision made with these inputs would be the same now."""
        policy, keyring, frozen, own, second = inputs
        same = policy is self.policy and keyring is self.keyring and frozen is self.frozen
        return same and second == int(time.time()) and own == self._own_addresses()

    def revocation(self, identity: Identity, destination: Destination, zone: Zone | None) -> Revocation | None:
        """Why a forward must end; None while it is allowed. `zone` is as it was at the dial, None before the dial."""
        decision = self.decide(identity, destination)
        if not decision.allowed:
            return Revocation(decision.reason.value, decision.detail)
        now = self.policy.inventory.zones.get(destination.zone)
        if zone is None or (now is not None and (zone.interface, zone.gateway) == (now.interface, now.gateway)):
            return None
        return Revocation("policy-changed", f"{destination.zone} is reached another way now")

    def key_revocation(self, identity: Identity) -> Revocation | None:
        """Why a whole connection must end: its key may no longer be used; None while it may."""
        if self.is_frozen(identity.fingerprint):
            return Revocation(Reason.KEY_FROZEN.value, f"the key {identity.fingerprint} is frozen")
        key = self.keyring.keys.get(identity.fingerprint)
        if key is None and identity.fingerprint in self.keyring.revocations:
            return Revocation(Reason.KEY_REVOKED.value, f"the key {identity.fingerprint} is revoked")
        if key is None or key.person != identity.person:
            text = f"the key {identity.fingerprint} is not listed for {identity.person} any more"
            return Revocation(Reason.KEY_UNLISTED.value, text)
        refusal = login_refusal(key, identity, int(time.time()))
        return None if refusal is None else Revocation(refusal[0].value, refusal[1])

    def is_frozen(self, fingerprint: str) -> bool:
        """Whether that key is frozen now."""
        return self.frozen.get(fingerprint, 0) > time.time()

    def freeze(self, keys: Mapping[str, int]) -> None:
        """These keys are frozen, each until that Unix second, and no others."""
        self.frozen = dict(keys)
        self._changed()

    def load(self, message: Message) -> bool:
        """Load one part of `settings`, `policy` or `keys`; True when one is complete and in force."""
        kind = message["t"]
        if kind == "settings":
            self.settings = settings_from_json(message["settings"])
            self._listening = tuple((ip_address(address), int(port)) for address, port in message["listening"])
            self.policy = self._with_listeners(self.policy)
            return True
        if kind == "policy":
            if message.get("first"):
                self._policy_loader = SnapshotLoader()
            for line in message["lines"]:
                self._policy_loader.feed(line)
            if not message.get("last"):
                return False
            self.policy = self._with_listeners(self._policy_loader.finish())
            self._policy_loader = SnapshotLoader()
        else:
            if message.get("first"):
                self._key_loader = KeyringLoader()
            for line in message["lines"]:
                self._key_loader.feed(line)
            if not message.get("last"):
                return False
            self.keyring = self._key_loader.finish()
            self._key_loader = KeyringLoader()
        gc.freeze()  # collections need not visit objects that live for days
        self._changed()
        return True

    def narrow(self, files: Keyring) -> None:
        """Take out the keys that are no longer in the files, or are revoked there."""
        self.keyring = narrowed(self.keyring, files)
        self._changed()

    def _with_listeners(self, policy: Policy) -> Policy:
        """The policy with the sockets that are really listened on: systemd's may differ from `listen`."""
        extra = tuple((None if address.is_unspecified else address, port) for address, port in self._listening)
        known = policy.forbidden.listeners
        listeners = known + tuple(listener for listener in extra if listener not in known)
        return replace(policy, forbidden=replace(policy.forbidden, listeners=listeners))

    def _own_addresses(self) -> frozenset[Address]:
        now = time.monotonic()
        if now - self._own_at > OWN_ADDRESSES_SECONDS:
            self._own_at = now
            try:
                self._own = interfaces.own_addresses()
            except (OSError, RelayError):
                # not Linux, or the kernel is short of memory: the last answer stays. If there is none yet, the route
                # guard still refuses this machine's own addresses (their routes are of type local)
                return self._own
        return self._own

"""The answer of `relayctl explain`: whether a person may reach a target, by the rules and by the person's keys.

The running configuration decides; if there is none, the site's files do. The rules are evaluated first, then each key's
options.
"""

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from zoneinfo import ZoneInfo

from relay.core.keys import authorized_keys
from relay.core.keys.authorized_keys import Key
from relay.core.keys.keyring import Keyring
from relay.core.policy.explain import Explanation, explain, explain_person
from relay.core.policy.model import Address, Identity
from relay.core.policy.policy import Policy
from relay.core.policy.target import Target
from relay.errors import RelayError, SiteInvalid
from relay.site import diff, key_files, times
from relay.site.locate import Site
from relay.site.policy import compiler
from relay.site.policy.compiler import Examination
from relay.site.times import TypedTime

_UNNAMED_SOURCE = IPv4Address("192.0.2.1")  # RFC 5737: an address of no client, for keys if no source is given


@dataclass(frozen=True, slots=True)
class ExplainRequest:
    """A request to explain. `source` None is an address that no rule names; `at` None is now."""

    person: str
    target: Target
    source: Address | None
    at: TypedTime | None


@dataclass(frozen=True, slots=True)
class ExplainAnswer:
    """The explanation, and notes for the operator."""

    explanation: Explanation
    key: Key | None  # the key used; None: by the rules alone
    applied: bool  # False: by the files, without a running configuration
    at: int  # Unix seconds
    notes: tuple[str, ...]


def answer(site: Site, asked: ExplainRequest, *, now: int, own: Callable[[], frozenset[Address]]) -> ExplainAnswer:
    """The answer at `asked.at`, else at `now` (Unix seconds). `own` returns this machine's addresses.

    Raises SiteInvalid for an invalid site without a running configuration.
    """
    examination = compiler.examine(site.path, now=now)
    zone = ZoneInfo(examination.settings.timezone)
    at = asked.at.begin(zone) if asked.at else now
    notes: list[str] = []
    try:
        applied = diff.read(site.state)
        policy = None if applied is None else applied.policy()
    except RelayError as error:
        applied = policy = None
        notes.append(f"{error.what}; this answer is by the files")
    files = key_files.read(site.path, offsets=times.offsets(zone, now), rsa_bits=examination.settings.limits.rsa_bits)
    keys = files if applied is None or applied.keyring is None else applied.keyring
    is_applied = policy is not None
    if policy is None:
        policy = _compiled(examination)
    own_addresses = own()
    explanation, key = _explain(policy, keys, asked, at, own_addresses)
    if not keys.of(asked.person):
        notes.append(f"{asked.person} has no key and cannot log in: relayctl add-key {asked.person}")
    if is_applied and (examination.compiled is None or examination.version != policy.version):
        notes.append(_by_files(examination, files, asked, at=at, own=own_addresses, running=explanation))
    return ExplainAnswer(explanation, key, is_applied, at, tuple(filter(None, notes)))


def _compiled(examination: Examination) -> Policy:
    if examination.compiled is None:
        failing = (failure.fault() for failure in examination.failures)
        raise SiteInvalid((*examination.faults, *failing), compiler.HINT)
    return examination.compiled.policy


def _explain(
    policy: Policy, keys: Keyring, asked: ExplainRequest, at: int, own: frozenset[Address]
) -> tuple[Explanation, Key | None]:
    """By the rules; if they allow, by the first key of the person that permits it, else by the first key."""
    by_rules = explain_person(policy, asked.person, asked.source, asked.target, at, own=own)
    destination = by_rules.decision.destination
    listed = keys.of(asked.person)
    if not by_rules.decision.allowed or destination is None or not listed:
        return by_rules, None
    for key in listed:
        if authorized_keys.refusal(key, _identity(asked, key), destination, at, policy.resolve) is None:
            return by_rules, key
    key = listed[0]
    return explain(policy, _identity(asked, key), key, asked.target, at, own=own), key


def _identity(asked: ExplainRequest, key: Key) -> Identity:
    source = _UNNAMED_SOURCE if asked.source is None else asked.source
    return Identity(asked.person, key.fingerprint, source, touched=True, verified=True)


def _by_files(
    examination: Examination,
    files: Keyring,
    asked: ExplainRequest,
    *,
    at: int,
    own: frozenset[Address],
    running: Explanation,
) -> str:
    if examination.compiled is None:
        return "the files differ from the running configuration, and are not valid: relayctl check"
    candidate, _ = _explain(examination.compiled.policy, files, asked, at, own)
    if candidate.decision.allowed == running.decision.allowed:
        return "the files differ from the running configuration, but give the same answer"
    effect = "allow" if candidate.decision.allowed else "deny"
    return f"the files, which are not applied yet, would {effect} it: relayctl reload"

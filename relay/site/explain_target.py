"""Would the relay let this person reach that? By the rules, by the keys the person has, and by what is not applied yet.

The law is what is applied; a site that was never applied is judged by its files. The rules are judged first, then
each key's own conditions.
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

_UNSAID = IPv4Address("192.0.2.1")  # RFC 5737: an address that nobody connects from, for keys when no source is given


@dataclass(frozen=True, slots=True)
class ExplainRequest:
    """The question. `source` None: from an address that no rule names; `at` None: now."""

    person: str
    target: Target
    source: Address | None
    at: TypedTime | None


@dataclass(frozen=True, slots=True)
class ExplainAnswer:
    """The explanation that counts, and what else an operator should know."""

    explanation: Explanation
    key: Key | None  # the key it was judged with; None: by the rules alone
    applied: bool  # False: by the files, nothing is applied
    at: int  # Unix seconds
    notes: tuple[str, ...]


def answer(site: Site, asked: ExplainRequest, *, now: int, own: Callable[[], frozenset[Address]]) -> ExplainAnswer:
    """The answer at `asked.at`, else at `now` (Unix seconds). `own` gives this machine's addresses.

    Raises SiteInvalid for a broken site of which nothing was ever applied.
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
        notes.append(f"{error.what}; this is by the files")
    files = key_files.read(site.path, offsets=times.offsets(zone, now), rsa_bits=examination.settings.limits.rsa_bits)
    keys = files if applied is None or applied.keyring is None else applied.keyring
    is_applied = policy is not None
    if policy is None:
        policy = _compiled(examination)
    own_addresses = own()
    explanation, key = _judged(policy, keys, asked, at, own_addresses)
    if not keys.of(asked.person):
        notes.append(f"{asked.person} has no key, so nobody gets in as {asked.person}: relayctl add-key {asked.person}")
    if is_applied and (examination.compiled is None or examination.version != policy.version):
        notes.append(_by_files(examination, files, asked, at=at, own=own_addresses, law=explanation))
    return ExplainAnswer(explanation, key, is_applied, at, tuple(filter(None, notes)))


def _compiled(examination: Examination) -> Policy:
    if examination.compiled is None:
        failing = (failure.fault() for failure in examination.failures)
        raise SiteInvalid((*examination.faults, *failing), compiler.HINT)
    return examination.compiled.policy


def _judged(
    policy: Policy, keys: Keyring, asked: ExplainRequest, at: int, own: frozenset[Address]
) -> tuple[Explanation, Key | None]:
    """By the rules; where they allow, with the first of the person's keys that goes there, else the first of them."""
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
    source = _UNSAID if asked.source is None else asked.source
    return Identity(asked.person, key.fingerprint, source, touched=True, verified=True)


def _by_files(
    examination: Examination,
    files: Keyring,
    asked: ExplainRequest,
    *,
    at: int,
    own: frozenset[Address],
    law: Explanation,
) -> str:
    if examination.compiled is None:
        return "the files differ from what is applied, and are not valid: relayctl check"
    wish, _ = _judged(examination.compiled.policy, files, asked, at, own)
    if wish.decision.allowed == law.decision.allowed:
        return "the files differ from what is applied, but not in this answer"
    said = "allow" if wish.decision.allowed else "deny"
    return f"the files, which are not applied yet, would {said} it: relayctl reload"

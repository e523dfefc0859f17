"""Parser of authorized_keys files, and the checks of a key's options at log-in and at each forward.

A line with an unsupported option is a fault, and its key is not accepted; other lines load. A key grants nothing by
itself: its options narrow what the policy allows its person.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from relay.core.escape import escape
from relay.core.keys import authorized_keys_options, public_key
from relay.core.keys.authorized_keys_options import FromPattern, PermitOpen
from relay.core.keys.public_key import ALGORITHMS, RSA_BITS, PublicKey, fingerprint
from relay.core.policy.model import Decision, Destination, Identity, Reason
from relay.core.policy.target import Target
from relay.core.policy.time_conditions import Offsets
from relay.errors import Fault, InputRejected

__all__ = [
    "ALGORITHMS",
    "FromPattern",
    "Key",
    "PermitOpen",
    "PublicKey",
    "fingerprint",
    "parse_file",
    "parse_line",
    "refusal",
]

LINE_LIMIT = 16_384  # characters; OpenSSH's limit is 8 KiB, long lists in from= and permitopen= need more
FILE_KEYS_MOST = 1000  # keys of one person
COMMENT_LIMIT = 255

Resolve = Callable[[Target], Destination | Decision]


@dataclass(frozen=True, slots=True)
class Key:
    """One public key of one person, with the options of its line."""

    fingerprint: str  # SHA256:... as ssh-keygen -l prints it
    algorithm: str
    bits: int
    comment: str  # as written: escape it before display
    blob: bytes
    person: str
    sources: tuple[FromPattern, ...] = ()  # from=; empty: any source
    expires: int | None = None  # Unix seconds, exclusive
    permitopen: tuple[PermitOpen, ...] | None = None
    forwarding: bool = True
    verify_required: bool = False  # a security key must attest user verification
    touch_required: bool = False  # always true for security keys
    without_effect: tuple[str, ...] = ()
    file: str = ""
    line: int = 0

    @property
    def place(self) -> str:
        """The key's place as file:line."""
        return f"{self.file}:{self.line}"


def parse_line(
    text: str,
    *,
    person: str,
    file: str,
    line: int,
    offsets: Offsets = (),
    rsa_bits: int = RSA_BITS,
) -> Key | None:
    """Parse one line of an authorized_keys file; None for an empty line or a comment.

    `offsets` are the site's time zone (see authorized_keys_options.parse). Raises InputRejected, with a hint, for a
    line with anything unsupported (sshd(8), AUTHORIZED_KEYS FILE FORMAT).
    """
    text = text.removeprefix("\ufeff").strip(" \t\r\n")
    if not text or text.startswith("#"):
        return None
    if len(text) > LINE_LIMIT:
        raise InputRejected(f"the line has {len(text)} letters, the limit is {LINE_LIMIT}", "one key per line")
    if any((letter < " " and letter != "\t") or letter == "\x7f" for letter in text):
        raise InputRejected("the line holds control characters", "paste the line of the .pub file again")
    options = authorized_keys_options.KeyOptions()
    if not public_key.looks_like_algorithm(_words(text, 1)[0]):
        end = authorized_keys_options.advance(text)
        rest = text[end:].lstrip(" \t")
        if not rest:
            raise InputRejected(
                "there is no public key on the line",
                "a key looks like: ssh-ed25519 AAAA... comment; comments start with #",
            )
        if not public_key.looks_like_algorithm(_words(rest, 1)[0]):
            public_key.refuse_algorithm(_words(rest, 1)[0])
        options = authorized_keys_options.parse(text[:end], offsets=offsets)
        text = rest
    algorithm, encoded, comment = (*_words(text, 2), "", "")[:3]
    if not encoded:
        public_key.refuse_algorithm(algorithm)
        raise InputRejected(
            f"nothing follows {escape(algorithm, 60)}", "paste the line of the .pub file again, unwrapped"
        )
    public = public_key.parse(algorithm, encoded, rsa_bits=rsa_bits)
    security_key = algorithm.startswith("sk-")
    if options.verify_required and not security_key:
        raise InputRejected(
            f"verify-required asks for what a key of type {algorithm} cannot do", "use a key made with: -t ed25519-sk"
        )
    return Key(
        fingerprint=fingerprint(public.blob),
        algorithm=algorithm,
        bits=public.bits,
        comment=comment.strip(" \t")[:COMMENT_LIMIT],
        blob=public.blob,
        person=person,
        sources=options.sources,
        expires=options.expires,
        permitopen=options.permitopen,
        forwarding=options.forwarding,
        verify_required=options.verify_required,
        touch_required=security_key,
        without_effect=options.without_effect,
        file=file,
        line=line,
    )


def parse_file(
    text: str, person: str, file: str, *, offsets: Offsets = (), rsa_bits: int = RSA_BITS
) -> tuple[tuple[Key, ...], tuple[Fault, ...], tuple[Fault, ...]]:
    """Parse an authorized_keys file: its keys, the faults of its lines, and warnings about accepted keys.

    If a key is listed twice with different options, it is not accepted and both lines are faults.
    """
    keys: dict[str, Key] = {}
    faults: list[Fault] = []
    warnings: list[Fault] = []
    differing: set[str] = set()
    for number, line in enumerate(text.split("\n"), 1):
        try:
            key = parse_line(line, person=person, file=file, line=number, offsets=offsets, rsa_bits=rsa_bits)
        except InputRejected as error:
            faults.append(Fault(file, number, error.what, error.hint))
            continue
        if key is None:
            continue
        first = keys.get(key.fingerprint)
        if first is None:
            if len(keys) == FILE_KEYS_MOST:
                faults.append(
                    Fault(file, number, f"more than {FILE_KEYS_MOST} keys", "the rest of the file is not read")
                )
                break
            keys[key.fingerprint] = key
            warnings += (Fault(file, number, what, cure) for what, cure in advice(key))
        elif conditions(first) == conditions(key):
            warnings.append(Fault(file, number, f"the same key as on line {first.line}", "remove one of the two"))
        else:
            differing.add(key.fingerprint)
            cure = "keep one of the two; until then the key is not accepted"
            faults.append(Fault(file, number, f"the key of line {first.line} again, with other options", cure))
            faults.append(Fault(file, first.line, f"the key of line {number} again, with other options", cure))
    kept = tuple(key for key in keys.values() if key.fingerprint not in differing)
    return kept, tuple(sorted(set(faults), key=lambda fault: fault.line)), tuple(warnings)


def conditions(key: Key) -> tuple[object, ...]:
    """The effective options of a key: two lines of one key are equivalent if these are equal."""
    return key.sources, key.expires, key.permitopen, key.forwarding, key.verify_required


def advice(key: Key) -> tuple[tuple[str, str], ...]:
    """Warnings about a valid key whose settings are probably unintended, each as (what, cure)."""
    warnings = []
    if key.algorithm == public_key.RSA and key.bits < public_key.RSA_BITS_ADVISED:
        warnings.append(
            (
                f"an RSA key of {key.bits} bits; at least {public_key.RSA_BITS_ADVISED} are recommended",
                "ssh-keygen -t ed25519 makes a better one",
            )
        )
    if not key.forwarding:
        warnings.append(
            (
                "this key can log in but reach nothing: its options forbid port forwarding",
                "put port-forwarding after restrict",
            )
        )
    if key.sources and all(source.negated for source in key.sources):
        warnings.append(
            (
                "from= has only negated patterns, so no address matches",
                'add the allowed addresses: from="!192.0.2.1,192.0.2.0/24"',
            )
        )
    return tuple(warnings)


def login_refusal(key: Key, identity: Identity, now: int) -> tuple[Reason, str] | None:
    """Why this key may not log in for this connection at `now` (Unix seconds); None if it may.

    Checks expiry-time=, from= and what the signature must attest; the text is for the operator only.
    """
    if key.expires is not None and now >= key.expires:
        return Reason.KEY_EXPIRED, f"the key of {key.place} expired: its expiry-time= has passed"
    if key.sources:
        text = str(identity.source)
        admitted = False
        for source in key.sources:
            if source.matches(identity.source, text):
                if source.negated:
                    return Reason.KEY_SOURCE, f"from= of {key.place} excludes {text} by {source}"
                admitted = True
        if not admitted:
            return Reason.KEY_SOURCE, f"from= of {key.place} does not name {text}"
    if key.touch_required and not identity.touched:
        return Reason.KEY_PRESENCE, f"the signature of {key.place} does not attest a touch"
    if key.verify_required and not identity.verified:
        return Reason.KEY_PRESENCE, f"the signature of {key.place} does not attest a verified user"
    return None


def refusal(
    key: Key, identity: Identity, destination: Destination, now: int, resolve: Resolve
) -> tuple[Reason, str] | None:
    """Why this key's options forbid a forward to `destination`; None if they permit it.

    `resolve` is `Policy.resolve`: permitopen= is resolved before it is compared, so its spelling does not matter. A
    permitopen= that is unknown or ambiguous matches nothing.
    """
    refused = login_refusal(key, identity, now)
    if refused is not None:
        return refused
    if not key.forwarding:
        return Reason.KEY_NO_FORWARDING, f"the options of {key.place} forbid port forwarding"
    if key.permitopen is not None and not any(_permits(permit, destination, resolve) for permit in key.permitopen):
        return Reason.KEY_PERMITOPEN, f"no permitopen= of {key.place} names {destination}"
    return None


def _permits(permit: PermitOpen, destination: Destination, resolve: Resolve) -> bool:
    if permit.port and permit.port != destination.port:
        return False
    if permit.host is None:
        return True
    permitted = resolve(permit.host)
    if not isinstance(permitted, Destination):
        return False
    return permitted.zone == destination.zone and permitted.address == destination.address


def _words(text: str, most: int) -> list[str]:
    """The first `most` words of `text` and the rest, if any; separated by spaces and tabs only, as in OpenSSH."""
    return re.split("[ \t]+", text, maxsplit=most)

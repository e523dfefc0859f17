"""Which algorithms does the relay speak? Explicit lists; the library's defaults have group14-sha1 among them."""

import re
from collections.abc import Collection, Sequence
from pathlib import Path

# The first entries of the first two lists also decide whether a guessed key exchange is right (RFC 4253 7.1).
KEX = ("mlkem768x25519-sha256", "curve25519-sha256", "curve25519-sha256@libssh.org")
GCM = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
CTR = ("aes128-ctr", "aes192-ctr", "aes256-ctr")
CHACHA = ("chacha20-poly1305@openssh.com",)
MAC = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com")
# What a person's signature may be made with; SHA-1 "ssh-rsa" is not among them, whatever the client says.
SIGNATURES = (
    "ssh-ed25519",
    "sk-ssh-ed25519@openssh.com",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "rsa-sha2-512",
    "rsa-sha2-256",
)


def ciphers(chacha: str, aes: bool) -> Sequence[str]:
    """The ciphers offered. The client's order decides and OpenSSH asks for chacha20 first, at ten times the cost.

    So it is offered only by setting (`chacha: yes`) or, under `auto`, on a machine without AES instructions.
    """
    if chacha == "yes" or (chacha == "auto" and not aes):
        return (*GCM, *CTR, *CHACHA) if aes else (*CHACHA, *GCM, *CTR)
    return (*GCM, *CTR)


def speaks_first(version: bytes) -> bool:
    """Whether a client that called itself `version` (RFC 4253 4.2) says what it speaks without waiting for us.

    OpenSSH does, so our offer can fit what it has. GCM is in it since 6.2.
    """
    found = _OPENSSH.match(version)
    return found is not None and (int(found[1]), int(found[2])) >= (6, 2)


def for_client(offered: Sequence[bytes], version: bytes, theirs: Collection[bytes] = ()) -> list[bytes]:
    """The ciphers offered to a client that called itself `version`; `theirs`: those it has said that it speaks.

    Every one is sound, so a client that lies gains nothing. OpenSSH up to 9.x prefers aes-ctr to aes-gcm, which costs
    several times as much here: it gets GCM alone, unless it is told not to speak it. Who speaks nothing else of ours
    gets chacha20, as does Dropbear, which as Debian builds it has neither GCM nor our MACs: nobody is locked out.
    """
    chacha = CHACHA[0].encode()
    if speaks_first(version) and (not theirs or _GCM & {*theirs}):
        return [cipher for cipher in offered if cipher not in _CTR]
    # of who speaks first what it speaks decides alone: what an offer comes to is remembered for all who make it
    named = b"dropbear" in version and not speaks_first(version)
    if chacha not in offered and (named or (chacha in theirs and not {*offered} & {*theirs})):
        return [*offered, chacha]
    return list(offered)


_OPENSSH = re.compile(rb"SSH-2\.0-OpenSSH_(?:for_Windows_)?([0-9]{1,3})\.([0-9]{1,3})")
_CTR = frozenset(cipher.encode() for cipher in CTR)
_GCM = frozenset(cipher.encode() for cipher in GCM)


def cpu_has_aes(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this CPU has AES instructions (x86 and ARM say `aes`); where nothing tells, assume that it has."""
    try:
        text = cpuinfo.read_text(errors="replace")
    except OSError:
        return True
    flags = [line for line in text.splitlines() if line.lower().startswith(("flags", "features"))]
    return not flags or any("aes" in line.split() for line in flags)

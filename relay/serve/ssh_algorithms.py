"""The SSH algorithms of the relay, as explicit lists: asyncssh's defaults include group14-sha1."""

import re
from collections.abc import Collection, Sequence
from pathlib import Path

# The first entries of the first two lists also decide whether a guessed key exchange is right (RFC 4253 7.1).
KEX = ("mlkem768x25519-sha256", "curve25519-sha256", "curve25519-sha256@libssh.org")
GCM = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
CTR = ("aes128-ctr", "aes192-ctr", "aes256-ctr")
CHACHA = ("chacha20-poly1305@openssh.com",)
MAC = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com")
# Signature algorithms of persons' keys; SHA-1 "ssh-rsa" is not among them, whatever the client offers.
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
    """The ciphers that the relay offers.

    The client's order decides, and OpenSSH prefers chacha20, at ten times the cost. So it is offered only by setting
    (`chacha: yes`) or, with `auto`, on a machine without AES instructions.
    """
    if chacha == "yes" or (chacha == "auto" and not aes):
        return (*GCM, *CTR, *CHACHA) if aes else (*CHACHA, *GCM, *CTR)
    return (*GCM, *CTR)


def sends_kexinit_first(version: bytes) -> bool:
    """Whether a client with this version line (RFC 4253 4.2) sends its KEXINIT without waiting for ours.

    OpenSSH does, so our KEXINIT can fit its ciphers. It has had GCM since 6.2.
    """
    match = _OPENSSH.match(version)
    return match is not None and (int(match[1]), int(match[2])) >= (6, 2)


def for_client(offered: Sequence[bytes], version: bytes, theirs: Collection[bytes] = ()) -> list[bytes]:
    """The ciphers to offer to a client with this version line; `theirs`: those of its KEXINIT, if it came first.

    All are sound, so a client that lies gains nothing. OpenSSH up to 9.x prefers aes-ctr to aes-gcm, which costs
    several times as much here: it is offered GCM alone, unless it is configured without it. A client that supports
    nothing else of ours is offered chacha20, and so is Dropbear, which Debian builds without GCM and without our MACs.
    """
    chacha = CHACHA[0].encode()
    if sends_kexinit_first(version) and (not theirs or _GCM & {*theirs}):
        return [cipher for cipher in offered if cipher not in _CTR]
    # the version line decides only for a client whose ciphers are not known yet
    named = b"dropbear" in version and not sends_kexinit_first(version)
    if chacha not in offered and (named or (chacha in theirs and not {*offered} & {*theirs})):
        return [*offered, chacha]
    return list(offered)


_OPENSSH = re.compile(rb"SSH-2\.0-OpenSSH_(?:for_Windows_)?([0-9]{1,3})\.([0-9]{1,3})")
_CTR = frozenset(cipher.encode() for cipher in CTR)
_GCM = frozenset(cipher.encode() for cipher in GCM)


def cpu_has_aes(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this CPU has AES instructions (`aes` on x86 and ARM); assumed where /proc/cpuinfo does not tell."""
    try:
        text = cpuinfo.read_text(errors="replace")
    except OSError:
        return True
    flags = [line for line in text.splitlines() if line.lower().startswith(("flags", "features"))]
    return not flags or any("aes" in line.split() for line in flags)

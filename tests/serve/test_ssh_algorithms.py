"""The algorithms offered, by CPU, setting and client."""

from pathlib import Path

import asyncssh
import pytest

from relay.serve import ssh_algorithms

CHACHA = "chacha20-poly1305@openssh.com"


@pytest.mark.parametrize(
    ("setting", "aes", "first", "has_chacha"),
    [
        ("auto", True, "aes128-gcm@openssh.com", False),
        ("auto", False, CHACHA, True),
        ("yes", True, "aes128-gcm@openssh.com", True),
        ("yes", False, CHACHA, True),
        ("no", True, "aes128-gcm@openssh.com", False),
        ("no", False, "aes128-gcm@openssh.com", False),
    ],
)
def test_chacha_is_offered_only_where_it_is_not_slower(setting: str, aes: bool, first: str, has_chacha: bool) -> None:
    """OpenSSH prefers chacha20, so a machine with AES instructions offers it only by setting."""
    chosen = ssh_algorithms.ciphers(setting, aes)
    assert (chosen[0], CHACHA in chosen) == (first, has_chacha)


@pytest.mark.parametrize(
    ("version", "ctr", "chacha"),
    [
        (b"SSH-2.0-OpenSSH_9.2p1 Debian-2", False, False),
        (b"SSH-2.0-OpenSSH_10.1", False, False),
        (b"SSH-2.0-OpenSSH_6.2", False, False),
        (b"SSH-2.0-OpenSSH_6.1", True, False),
        (b"SSH-2.0-OpenSSH_for_Windows_9.5", False, False),
        (b"SSH-2.0-dropbear_2022.83", True, True),
        (b"SSH-2.0-PuTTY_Release_0.79", True, False),
        (b"SSH-2.0-", True, False),
        (b"", True, False),
    ],
)
def test_each_client_gets_the_fastest_cipher_it_has(version: bytes, ctr: bool, chacha: bool) -> None:
    """OpenSSH would choose CTR before GCM, and Dropbear has only chacha20 in common: the offer fits both."""
    offered = [cipher.encode() for cipher in ssh_algorithms.ciphers("auto", True)]
    fitted = ssh_algorithms.for_client(offered, version)
    assert (b"aes128-ctr" in fitted, CHACHA.encode() in fitted) == (ctr, chacha)
    assert fitted[0] == b"aes128-gcm@openssh.com"
    assert ssh_algorithms.for_client(fitted, version) == fitted


@pytest.mark.parametrize(
    ("theirs", "expected"),
    [
        ((CHACHA, "aes128-ctr", "aes256-ctr", "aes128-gcm@openssh.com"), ssh_algorithms.GCM),
        ((CHACHA, "aes256-gcm@openssh.com"), ssh_algorithms.GCM),
        (("aes256-ctr", CHACHA), (*ssh_algorithms.GCM, *ssh_algorithms.CTR)),
        ((CHACHA, "3des-cbc"), (*ssh_algorithms.GCM, *ssh_algorithms.CTR, CHACHA)),
        (("3des-cbc",), (*ssh_algorithms.GCM, *ssh_algorithms.CTR)),
        ((), ssh_algorithms.GCM),
    ],
)
def test_who_is_told_not_to_speak_gcm_is_not_locked_out(theirs: tuple[str, ...], expected: tuple[str, ...]) -> None:
    """To an OpenSSH client without GCM CTR is offered, or chacha20 if it has nothing else."""
    offered = [cipher.encode() for cipher in ssh_algorithms.ciphers("auto", True)]
    fitted = ssh_algorithms.for_client(offered, b"SSH-2.0-OpenSSH_9.2p1", [cipher.encode() for cipher in theirs])
    assert fitted == [cipher.encode() for cipher in expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("flags\t\t: fpu aes avx\n", True),
        ("flags\t\t: fpu avx\n", False),
        ("Features\t: fp asimd aes\n", True),
        ("Features\t: fp asimd\n", False),
        ("model name: maes\nflags : aesni_not\n", False),
        ("", True),
    ],
)
def test_the_cpu_tells_whether_it_has_aes(tmp_path: Path, text: str, expected: bool) -> None:
    """The line is `flags` on x86 and `Features` on ARM; without such a line AES is assumed."""
    (tmp_path / "cpuinfo").write_text(text)
    assert ssh_algorithms.cpu_has_aes(tmp_path / "cpuinfo") is expected


def test_nothing_old_is_offered() -> None:
    """No SHA-1, no NIST-less RSA signature, no CBC, no group exchange, no MAC without encrypt-then-mac."""
    offered = " ".join(
        [*ssh_algorithms.KEX, *ssh_algorithms.ciphers("yes", True), *ssh_algorithms.MAC, *ssh_algorithms.SIGNATURES]
    )
    for word in ("sha1", "cbc", "group", "3des", "arcfour", "umac", " ssh-rsa ", "dss", "hmac-sha2-256 "):
        assert word not in f" {offered} "


def test_asyncssh_is_the_version_that_this_was_written_against() -> None:
    """For a newer asyncssh run test_asyncssh_contract, read the changes that it names, then move the pin."""
    assert asyncssh.__version__ == "2.24.1"


@pytest.mark.parametrize("theirs", [(CHACHA, "aes256-ctr"), ("aes256-ctr",), (CHACHA,), ("aes128-gcm@openssh.com",)])
def test_what_one_client_calls_itself_is_not_remembered_for_another(theirs: tuple[str, ...]) -> None:
    """For a client whose KEXINIT came first only its ciphers decide, whatever version it claims."""
    offered = [cipher.encode() for cipher in ssh_algorithms.ciphers("no", True)]
    spoken = [cipher.encode() for cipher in theirs]
    names = (b"SSH-2.0-OpenSSH_9.2p1", b"SSH-2.0-OpenSSH_9.2 dropbear", b"SSH-2.0-OpenSSH_for_Windows_9.5")
    assert all(map(ssh_algorithms.sends_kexinit_first, names))
    assert len({tuple(ssh_algorithms.for_client(offered, name, spoken)) for name in names}) == 1

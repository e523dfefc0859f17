"""The client's KEXINIT, guessed key exchanges, and bounds of key exchanges after log-in."""

import asyncio

import pytest
from asyncssh.packet import Boolean, NameList, PacketDecodeError, UInt32

from relay.serve.worker.ssh import key_exchange
from relay.serve.worker.ssh.key_exchange import ClientOffer, RekeyLimits

KEX, HOST_KEYS = [b"mlkem768x25519-sha256", b"curve25519-sha256"], [b"ssh-ed25519"]


def kexinit(kex: list[bytes], host_keys: list[bytes], *, guessed: bool = False) -> bytes:
    """A KEXINIT (RFC 4253 7.1)."""
    ciphers = NameList([b"a", b"b"]) + NameList([b"b", b"c"])
    rest = NameList([b"none"]) * 4 + NameList([]) * 2
    head = b"\x14" + bytes(16) + NameList(kex) + NameList(host_keys)
    return head + ciphers + rest + Boolean(guessed) + UInt32(0)


@pytest.mark.parametrize(
    ("kex", "host_keys", "guessed", "wrong"),
    [
        (KEX, HOST_KEYS, True, False),
        (KEX, HOST_KEYS, False, False),
        (KEX[::-1], HOST_KEYS, True, True),  # Dropbear: agreed, but first in the client's list only
        (KEX[::-1], HOST_KEYS, False, False),
        (KEX, [b"ssh-rsa", *HOST_KEYS], True, True),
        ([], [], True, True),
    ],
)
def test_a_guess_is_right_if_the_first_entries_agree(
    kex: list[bytes], host_keys: list[bytes], guessed: bool, wrong: bool
) -> None:
    """RFC 4253 7.1: the packet after the KEXINIT counts only if both first entries are ours."""
    offer = ClientOffer.parse(kexinit(kex, host_keys, guessed=guessed))
    assert offer.is_wrong_guess(KEX, HOST_KEYS) is wrong


def test_ciphers_are_those_of_both_directions() -> None:
    """A cipher that the client accepts in one direction only is left out."""
    assert ClientOffer.parse(kexinit(KEX, HOST_KEYS)).ciphers == {b"b"}


def test_every_incomplete_kexinit_is_an_error() -> None:
    """Cut before the flag anywhere, it is no offer."""
    whole = kexinit(KEX, HOST_KEYS)
    for size in range(len(whole) - 4):
        with pytest.raises(PacketDecodeError):
            ClientOffer.parse(whole[:size])


async def test_key_exchanges_out_of_turn_are_delayed() -> None:
    """The first REKEYS_AT_ONCE are not; one after enough data never is."""
    limits = RekeyLimits(asyncio.get_running_loop(), lambda: None)
    assert [limits.delay(0) for _ in range(key_exchange.REKEYS_AT_ONCE)] == [0.0] * key_exchange.REKEYS_AT_ONCE
    assert limits.delay(key_exchange.REKEY_BYTES - 1) > 0
    assert limits.delay(key_exchange.REKEY_BYTES) == 0.0


async def test_an_exchange_that_takes_too_long_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """The timer runs from the beginning to the end of an exchange, and a second beginning does not restart it."""
    monkeypatch.setattr(key_exchange, "REKEY_SECONDS", 0.0)
    ended: list[str] = []
    limits = RekeyLimits(asyncio.get_running_loop(), lambda: ended.append("late"))
    limits.begin()
    limits.end()
    await asyncio.sleep(0.001)
    assert ended == []
    limits.begin()
    limits.begin()
    async with asyncio.timeout(5):
        while not ended:
            await asyncio.sleep(0)
    await asyncio.sleep(0.001)
    assert ended == ["late"]

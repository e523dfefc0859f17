"""Global requests: keepalives and host keys are answered, all others refused."""

import pytest

from relay.serve.worker.ssh.global_requests import MAX_PROOFS
from tests.serve import hostile
from tests.serve.hostile import string
from tests.serve.plain import HOST_KEY, Owner, Plain

PROVE = "hostkeys-prove-00@openssh.com"


class Handler(Owner):
    """Keeps what was refused."""

    log: list[tuple[str, bytes]]

    def refused(self, kind: str, name: bytes) -> str:
        self.log.append((kind, name))
        return "no"


class Client(Plain):
    """A logged-in client that sends global requests."""

    def __init__(self) -> None:
        super().__init__(fast=True)
        self.owner.__class__ = Handler
        self.refused: list[tuple[str, bytes]] = []
        self.owner.log = self.refused  # type: ignore[attr-defined]  # it has become a Handler
        pair = next(iter(self.connection._server_host_keys.values()))
        self.connection._all_server_host_keys = {pair.public_data: pair}

    def request(self, name: str, rest: bytes = b"", *, reply: bool = True) -> list[bytes]:
        """The relay's answers to one request."""
        self.feed(self.packet(bytes([hostile.GLOBAL_REQUEST]) + string(name) + bytes([reply]) + rest))
        return self.heard()


@pytest.mark.parametrize("name", ["tcpip-forward", "cancel-tcpip-forward", "streamlocal-forward@openssh.com", ""])
async def test_every_other_request_is_refused_and_recorded(name: str) -> None:
    """The answer is a failure if one is wanted, and the connection continues."""
    one = Client()
    assert one.request(name) == [bytes([hostile.REQUEST_FAILURE])]
    assert one.request(name, reply=False) == []
    assert one.refused == [("global", name.encode())] * 2
    assert not one.gone
    one.close()


async def test_keepalives_are_answered_and_not_recorded() -> None:
    """OpenSSH's ServerAliveInterval; no-more-sessions, which it always sends, is not recorded either."""
    one = Client()
    assert [payload[0] for payload in one.request("keepalive@openssh.com")] == [81]
    assert one.request("no-more-sessions@openssh.com", reply=False) == []
    assert one.refused == []
    one.close()


async def test_host_keys_are_proven_a_few_times() -> None:
    """Each proof is a signature over the session id and the key; an unknown key and the fifth request are refused."""
    one = Client()
    blob = HOST_KEY.public_data
    for _ in range(MAX_PROOFS - 1):
        (answer,) = one.request(PROVE, string(blob))
        (signature,) = hostile.strings(answer[1:])
        signed = string(PROVE) + string(one.connection._session_id) + string(blob)
        assert HOST_KEY.convert_to_public().verify(signed, signature)
    assert one.request(PROVE, string(b"another key")) == [bytes([hostile.REQUEST_FAILURE])]
    assert one.request(PROVE, string(blob)) == [bytes([hostile.REQUEST_FAILURE])]
    assert one.refused == []
    one.close()


@pytest.mark.parametrize("count", [0, 2])
async def test_no_host_key_or_more_than_there_are_is_refused(count: int) -> None:
    """The relay of this test has one host key."""
    one = Client()
    assert one.request(PROVE, string(HOST_KEY.public_data) * count) == [bytes([hostile.REQUEST_FAILURE])]
    one.close()

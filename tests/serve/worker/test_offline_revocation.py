"""Revocation while no supervisor answers: the worker reads the key files itself."""

from pathlib import Path

from relay.core.keys.keyring import Keyring
from relay.serve.worker.offline_revocation import OfflineRevocation
from relay.site.key_files import read
from tests.relay_process import make_key
from tests.serve.worker import parts


def listed(site: Path, *persons: str) -> Keyring:
    """Keys of these persons in the files of a site, as they are applied."""
    (site / "keys").mkdir(mode=0o750)
    for person in persons:
        (site / "keys" / f"{person}.pub").write_text(make_key(site / person) + "\n")
    return read(site, None, offsets={}, rsa_bits=2048)


async def test_a_key_that_vanishes_from_the_files_is_taken_out(tmp_path: Path) -> None:
    """The others stay; what was added to the files is not let in without a supervisor."""
    bugs: list[BaseException] = []
    with parts.context() as context:
        context.authorizer.keyring = listed(tmp_path, "alice", "bob")
        offline = OfflineRevocation(context.authorizer, bugs.append)
        await offline.poll()  # the supervisor has not named its site
        offline.site = tmp_path
        (tmp_path / "keys" / "bob.pub").unlink()
        (tmp_path / "keys" / "eve.pub").write_text(make_key(tmp_path / "eve") + "\n")
        await offline.poll()
        assert {key.person for key in context.authorizer.keyring.keys.values()} == {"alice"}
        (tmp_path / "keys" / "alice.pub").unlink()
        await offline.poll()  # within the same second: not read again
        assert {key.person for key in context.authorizer.keyring.keys.values()} == {"alice"}
    assert bugs == []


async def test_a_site_that_is_gone_lists_no_keys(tmp_path: Path) -> None:
    """Failure refuses: a removed site is not a way to keep a key."""
    bugs: list[BaseException] = []
    with parts.context() as context:
        offline = OfflineRevocation(context.authorizer, bugs.append)
        offline.site = tmp_path / "gone"
        await offline.poll()
        assert not context.authorizer.keyring.keys
    assert bugs == []

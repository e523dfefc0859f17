"""Differences between a site's files and the running configuration."""

import json
from pathlib import Path

import pytest

from relay.core.keys import keyring
from relay.core.keys.authorized_keys import Key
from relay.core.keys.keyring import Keyring
from relay.errors import RelayError
from relay.site import diff


def key(fingerprint: str, **changes: object) -> Key:
    """A key of alice."""
    fields: dict[str, object] = {"person": "alice", "file": "keys/alice.pub", "line": 1, **changes}
    return Key(fingerprint, "ssh-ed25519", 256, "", b"", **fields)  # type: ignore[arg-type]


def ring(*keys: Key) -> Keyring:
    """A keyring of these keys."""
    return Keyring({one.fingerprint: one for one in keys})


def test_new_removed_and_changed_files_are_listed() -> None:
    """Equal files are left out; a changed one has its numbers of lines."""
    running = {"relay.yaml": "", "policies/a.yaml": "a\nb\n", "policies/b.yaml": ""}
    files = {"relay.yaml": "", "policies/a.yaml": "a\nc\nd\n", "policies/c.yaml": ""}
    assert [str(difference) for difference in diff.of_texts(running, files)] == [
        "policies/a.yaml: changed: 2 lines added, 1 removed",
        "policies/b.yaml: removed, but still applied",
        "policies/c.yaml: not applied yet",
    ]


def test_new_removed_and_changed_keys_are_listed() -> None:
    """A key whose comment or line moved is unchanged, one with another option is not."""
    running = ring(key("a"), key("b"), key("c"))
    files = ring(key("a", line=9), key("b", forwarding=False), key("d"))
    assert [difference.change for difference in diff.of_keys(running, files)] == [
        "its options or owner changed",
        "removed, but still applied",
        "not applied yet",
    ]


def test_without_a_running_configuration_there_is_none(tmp_path: Path) -> None:
    """Before the first start nothing was applied."""
    assert diff.read(tmp_path) is None


def test_the_running_configuration_is_read_with_its_keys(tmp_path: Path) -> None:
    """The kept files, version and keyring come back."""
    (tmp_path / diff.APPLIED).mkdir()
    rows = [["text", "relay.yaml", "node: a\n"], ["done", "0123456789ab", []]]
    (tmp_path / diff.APPLIED / diff.SITE).write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (tmp_path / diff.APPLIED / diff.KEYS).write_text("".join(f"{line}\n" for line in keyring.dump(ring(key("a")))))
    running = diff.read(tmp_path)
    assert running is not None
    assert (running.version, dict(running.texts)) == ("0123456789ab", {"relay.yaml": "node: a\n"})
    assert running.keyring is not None
    assert set(running.keyring.keys) == {"a"}


@pytest.mark.parametrize("content", [b"{", b"[]\n", b"\xff", b"3\n"])
def test_a_damaged_configuration_is_an_error(tmp_path: Path, content: bytes) -> None:
    """The error names the file and the way out."""
    (tmp_path / diff.APPLIED).mkdir()
    (tmp_path / diff.APPLIED / diff.SITE).write_bytes(content)
    with pytest.raises(RelayError, match="is damaged") as raised:
        diff.read(tmp_path)
    assert raised.value.hint == "relayctl reload"

"""The share of a LAN host: public keys."""

import pytest

from relay.net.plan.lan_host import lan_machine
from relay.net.plan.render import render
from tests.lab.world import HOME
from tests.net.plan.conftest import SHELLS, Box
from tests.net.plan.shares import KEY, OTHER_KEY, REMOTE, plan

FILE = f"{HOME}/root/.ssh/authorized_keys"


def script(**persons: tuple[str, ...]) -> str:
    """The script for the host remote."""
    return render(lan_machine(plan(), REMOTE, persons))


@pytest.mark.system
@pytest.mark.parametrize("shell", SHELLS)
def test_keys_are_added_once(box: Box, shell: tuple[str, ...]) -> None:
    """Each key is in authorized_keys once, with the owner and the modes that sshd requires."""
    box.twice(script(alice=(KEY,), bob=(OTHER_KEY,)), *shell)
    assert box.machine.path(FILE).read_text() == f"{KEY} alice@relay\n{OTHER_KEY} bob@relay\n"
    assert box.machine.sh(f"stat -c %a {FILE} {HOME}/root/.ssh").split() == ["600", "700"]


@pytest.mark.system
@pytest.mark.parametrize("shell", SHELLS)
def test_other_lines_stay(box: Box, shell: tuple[str, ...]) -> None:
    """Lines that are there stay, a key with options is not added again, a last line without its end stays whole."""
    there = f'# mine\nfrom="10.0.0.1" {KEY} old comment\nssh-rsa AAAAB3Nz last'
    box.machine.write(FILE, there, 0o600)
    box.script(script(alice=(KEY,), bob=(OTHER_KEY,)), *shell)
    assert box.machine.path(FILE).read_text() == f"{there}\n{OTHER_KEY} bob@relay\n"


@pytest.mark.system
def test_another_user(box: Box) -> None:
    """Run as another user it names the right one, and changes nothing."""
    box.program("id", "#!/bin/sh\necho nobody\n")
    assert "sudo -H -u root sh" in box.script(script(alice=(KEY,)), status=1)
    assert not box.machine.path(FILE).exists()


def test_comments_are_not_taken_over() -> None:
    """Of a key's line only type and key are printed: its comment is untrusted text."""
    text = script(alice=(f"{KEY} $(reboot)",))
    assert "reboot" not in text
    assert f"{KEY} alice@relay" in text


@pytest.mark.system
def test_another_user_is_refused(box: Box) -> None:
    """A host that no rule allows is named in a warning."""
    assert "no person with a key may reach this host" in box.script(script())

"""A share as one runnable file, run as printed, and as a page."""

import pytest

from relay.net.plan.machine import Machine, ManagedFile, PlanStep
from relay.net.plan.relay_host import relay_machine
from relay.net.plan.render import render
from tests.net.plan.conftest import SHELLS, Box
from tests.net.plan.shares import plan, shares


@pytest.mark.system
@pytest.mark.parametrize("shell", SHELLS)
def test_any_file_arrives_as_it_is(box: Box, shell: tuple[str, ...]) -> None:
    """A file's text is never read as shell text, not even where it holds the end of a here-document."""
    hostile = "$HOME `id` $(id) \\ 'a' \"b\"\nEND-OF-FILE\n\tEND-OF-FILE \nEND-\n* ~\n"
    machine = Machine("relay", files=(ManagedFile("/etc/relay-net/a b'c", hostile, 0o600),), up=":")
    box.script(render(machine), *shell)
    assert box.machine.path("/etc/relay-net/a b'c").read_text() == hostile
    assert box.machine.sh("stat -c %a /etc/relay-net/a*").strip() == "600"


@pytest.mark.system
def test_half_written_file_is_replaced(box: Box) -> None:
    """What an earlier run left half written is written whole, and a mode that was changed is set back."""
    machine = relay_machine(plan())
    box.printed(machine)
    box.machine.sh("echo half >/etc/relay-net/up.new; echo half >/etc/relay-net/down; chmod 600 /etc/relay-net/watch")
    said = box.script(render(machine))
    assert [line.split()[-1] for line in said.splitlines() if "written" in line] == ["/etc/relay-net/down"]
    assert box.machine.sh("stat -c %a /etc/relay-net/watch").strip() == "755"
    assert not box.machine.path("/etc/relay-net/up.new").exists()


def test_page() -> None:
    """The page to read has every warning, every step and every file of a share."""
    for machine in shares():
        page = render(machine, "md")
        assert page.startswith("## ")
        for warning in machine.warnings:
            assert warning in page
        for step in (*machine.before, *machine.after):
            assert step.by_hand in page
        for file in machine.files:
            assert file.path in page


def test_page_fences() -> None:
    """A text with fences of its own does not end the page's fence."""
    page = render(Machine("relay", before=(PlanStep("why", "echo '```'\n"),)), "md")
    assert page.count("````") == 2

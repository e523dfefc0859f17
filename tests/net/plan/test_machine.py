"""The value that is printed as a script and applied."""

from relay.net.plan.machine import OWN, PROTOCOL, UNIT, Machine
from relay.net.plan.relay_host import relay_machine
from tests.net.plan.shares import plan


def test_everything_owned_has_our_mark() -> None:
    """All files are below our directory or are our unit, so that an undo touches nothing else."""
    machine = relay_machine(plan())
    assert {file.path for file in machine.files if not file.path.startswith(f"{OWN}/")} == {
        f"/etc/systemd/system/{UNIT}"
    }
    assert machine.kernel.rules in {file.path for file in machine.files}
    assert {machine.up, machine.down} <= {file.path for file in machine.files}


def test_routes_of_ours_are_typed_with_our_protocol() -> None:
    """The page shows the protocol number by which the kernel's routes are recognised as ours."""
    assert f"proto {PROTOCOL}" in relay_machine(plan()).typed


def test_the_zero_value_changes_nothing() -> None:
    """A machine without files is what `net apply --undo` applies."""
    machine = Machine("relay")
    assert (machine.files, machine.kernel.routes, machine.kernel.settings, machine.up) == ((), (), (), "")

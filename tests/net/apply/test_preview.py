"""The dry run as text: what would change, in full and in short."""

from relay.net.apply import preview
from relay.net.apply.journal import AppliedPlan, Unit
from relay.net.apply.kernel_state import KernelState
from relay.net.apply.managed_files import FileChange, FileContent
from relay.net.apply.managed_routes import ManagedRouteLine
from relay.net.apply.preview import ApplyPreview
from relay.net.apply.transaction import EMPTY_MACHINE
from relay.net.plan.relay_host import relay_machine
from tests.net.plan.shares import plan

MACHINE = relay_machine(plan())
ROUTE = ManagedRouteLine(4, "unreachable 192.168.1.0/24 metric 4294967294")
FILE = FileChange("/etc/relay-net/up", None, FileContent(b"#!/bin/sh\n", 0o755))


def test_everything_that_changes_is_in_the_diff() -> None:
    """Files, the nft table, routes, settings and the unit."""
    wanted = KernelState("table inet relay_net {\n}\n", (ROUTE,), (("net/ipv4/ip_forward", "1"),))
    now = KernelState("", (), (("net/ipv4/ip_forward", "0"),))
    changes = ApplyPreview(MACHINE, AppliedPlan(), now, wanted, (FILE,), systemd=True)
    text = "\n".join(preview.diff_lines(changes))
    for part in ("+++ /etc/relay-net/up", "+table inet relay_net {", f"+ip -4 route: {ROUTE.words}", "-0", "+enabled"):
        assert part in text
    assert preview.summary(changes) == [
        "1 file written",
        "nft table relay_net made",
        f"route set: {ROUTE.words}",
        "net/ipv4/ip_forward: 0 becomes 1",
        "relay-net.service runs, now and at every boot",
    ]


def test_nothing_to_do_is_empty() -> None:
    """State, record and unit are as planned already."""
    state = KernelState("table inet relay_net {\n}\n", (ROUTE,))
    record = ApplyPreview(MACHINE, AppliedPlan(), state, state).next_record
    same = ApplyPreview(MACHINE, record, state, state)
    assert same.is_empty
    assert preview.diff_lines(same) == []
    assert preview.summary(same) == []


def test_an_undo_removes_what_is_on_record() -> None:
    """The machine without files has an empty record, and the unit is stopped."""
    state = KernelState("table inet relay_net {\n}\n", (ROUTE,))
    removed = FileChange(FILE.path, FILE.after, None)
    undo = ApplyPreview(
        EMPTY_MACHINE, AppliedPlan({FILE.path: "x"}), state, KernelState(), (removed,), systemd=True,
        unit=Unit(True, True),
    )  # fmt: skip
    assert undo.next_record == AppliedPlan()
    assert preview.summary(undo) == [
        "1 file removed",
        "nft table relay_net removed",
        f"route removed: {ROUTE.words}",
        "relay-net.service stopped, also at boot",
    ]

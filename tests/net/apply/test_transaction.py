"""The relay host becomes what the plan says, or stays what it was: in a machine of namespaces, against its kernel."""

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.world import Machine, World, wait_for

PROGRAM = Path(__file__).parents[1] / "applying.py"
pytestmark = pytest.mark.system


class Host:
    """The relay host of the network plan, with its overlay's interface."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        machine.ip(
            "link add zt0 type veth peer name far0",
            "link set far0 up",
            "link set zt0 up",
            "address add 172.18.0.10/24 dev zt0",
            "address add fd18::10/64 dev zt0 nodad",
        )

    def ask(self, verb: str, *knobs: str) -> Any:
        """What the program answers."""
        return json.loads(self.machine.run(*self.command(verb, *knobs), seconds=300).splitlines()[-1])

    def command(self, verb: str, *knobs: str) -> tuple[str, ...]:
        """The program's command line."""
        return sys.executable, str(PROGRAM), verb, *knobs

    def state(self) -> Any:
        """Everything that may change."""
        return self.ask("state")

    def routes(self) -> str:
        """Our routes as ip shows them."""
        return self.machine.sh("ip -4 route show proto 114; ip -6 route show proto 114")


@pytest.fixture
def host() -> Iterator[Host]:
    """A relay host on which nothing was applied."""
    with World() as world:
        yield Host(world.machine("relay"))


def test_applied_once_it_is_there_and_twice_it_is_nothing(host: Host) -> None:
    """Files, rules, routes; the second run finds nothing to do, and the undo leaves what was before."""
    before = host.state()
    difference = host.ask("apply")
    for line in (
        "+++ /etc/relay-net/up",
        "+++ kernel: nft table inet relay_net",
        "+ip -4 route: 192.168.1.0/24 via 172.18.0.200 dev zt0 metric 5001",
        "+ip -6 route: unreachable fdaa::/64 metric 4294967294",
    ):
        assert line in difference
    assert "unreachable 192.168.1.0/24 metric 4294967294" in host.routes()
    assert "table inet relay_net" in host.machine.run("nft", "list", "ruleset")
    after = host.state()
    assert host.ask("apply") == "nothing"
    assert host.state() == after
    difference = host.ask("undo")
    assert "--- /etc/relay-net/up" in difference
    assert host.state() == before
    assert host.ask("undo") == "nothing"


def test_settings_come_and_go_with_the_method(host: Host) -> None:
    """Method 2 forwards; back at method 1, and after an undo, the machine forwards as little as before."""
    before = host.state()
    host.ask("apply")
    first = host.state()
    assert "--- kernel: /proc/sys/net/ipv4/ip_forward\n" in host.ask("apply", "method2")
    assert host.machine.run("cat", "/proc/sys/net/ipv4/ip_forward") == "1\n"
    assert host.ask("apply", "method2") == "nothing"
    host.ask("apply")
    assert host.state() == first
    host.ask("apply", "method2")
    host.ask("undo")
    assert host.state() == before


def test_a_setting_that_was_so_before_stays(host: Host) -> None:
    """A machine that forwarded already (Docker) goes on forwarding after an undo."""
    host.machine.sysctl(ipv4__ip_forward=1)
    host.ask("apply", "method2")
    host.ask("undo")
    assert host.machine.run("cat", "/proc/sys/net/ipv4/ip_forward") == "1\n"


@pytest.mark.parametrize("earlier", [(), ("apply", "managed")])
def test_an_up_that_fails_leaves_everything_as_it_was(host: Host, earlier: tuple[str, ...]) -> None:
    """Everything that `up` did before it failed is rolled back, and its error message is shown."""
    if earlier:
        host.ask(*earlier)
    before = host.state()
    answer = host.ask("apply", "method2", "bad", "elsewhere")
    assert answer["what"] == "/etc/relay-net/up failed: up has failed; everything is as before"
    assert host.state() == before


def test_a_way_back_that_is_barred_is_gone_by_the_next_run(host: Host) -> None:
    """What could not be restored is reported with the failure; the next run restores it first."""
    before = host.state()
    answer = host.ask("apply", "method2", "stuck")
    service = "/etc/systemd/system/relay-net.service"
    assert answer["what"] == (
        f"/etc/relay-net/up failed: it ended with 4; not everything could be put back: {service}: Read-only file system"
    )
    assert host.machine.path("/etc/relay-net/journal.json").exists()
    assert host.machine.run("nft", "list", "ruleset") == ""
    host.machine.sh("umount /etc/systemd/system")
    assert host.ask("undo") == "nothing"
    assert host.state() == before


def test_what_the_kernel_does_not_keep_is_a_failure(host: Host) -> None:
    """An `up` that says yes and does too little is found out."""
    before = host.state()
    answer = host.ask("apply", "lazy")
    assert answer["what"].startswith("the kernel is not as planned afterwards:\n")
    assert "unreachable 192.168.1.0/24" in answer["what"]
    assert host.state() == before


def test_a_route_waits_for_its_interface(host: Host) -> None:
    """Before the overlay is joined the guard stands already; the zone's route is no failure, and comes later."""
    host.machine.ip("link del zt0")
    host.ask("apply")
    assert "dev zt0" not in host.routes()
    assert host.ask("apply") == "nothing"
    host.machine.ip("link add zt0 type veth peer name far0", "link set far0 up", "link set zt0 up")
    difference = host.ask("apply")  # no address yet from which the gateway could be reached
    assert "+ip -6 route: fdaa::/64 dev zt0 metric 5001" in difference
    assert "172.18.0.200" not in difference
    assert host.ask("apply") == "nothing"
    host.machine.ip("address add 172.18.0.10/24 dev zt0")
    assert "+ip -4 route: 192.168.1.0/24 via 172.18.0.200 dev zt0" in host.ask("apply")
    assert "192.168.1.0/24 via 172.18.0.200 dev zt0" in host.routes()


def test_what_somebody_took_away_is_put_back(host: Host) -> None:
    """A flushed table, a deleted route, an edited rule: the next run shows exactly that, and heals it."""
    host.ask("apply")
    after = host.state()
    host.machine.sh("nft flush ruleset; ip route del unreachable 192.168.1.0/24")
    difference = host.ask("apply")
    assert "+++ kernel: nft table inet relay_net" in difference
    assert "+ip -4 route: unreachable 192.168.1.0/24 metric 4294967294" in difference
    assert "/etc/relay-net/" not in difference
    assert host.state() == after
    host.machine.sh("nft insert rule inet relay_net output accept")
    assert "-\t\taccept" in host.ask("apply")
    assert host.state() == after


def test_another_ones_table_and_routes_are_not_touched(host: Host) -> None:
    """Docker's rules, the administrator's routes, also those into the same network: there before and after."""
    host.machine.nft("table inet docker { chain forward { type filter hook forward priority 0; policy drop; }; }")
    host.machine.ip("route add 192.168.1.0/25 via 172.18.0.200 dev zt0", "route add 10.9.0.0/16 dev zt0")
    before = host.state()
    host.ask("apply")
    during = host.state()
    assert "table inet docker" in during["kernel"][0]
    host.ask("undo")
    assert host.state() == before


def test_a_route_of_somebody_else_in_the_place_of_ours_is_refused(host: Host) -> None:
    """Made by hand after the same plan: named with the command that removes it, and nothing is changed."""
    host.machine.ip("route add unreachable 192.168.1.0/24 metric 4294967294")
    before = host.state()
    answer = host.ask("apply")
    assert "routes of other programs are where ours belong" in answer["what"]
    cure = "ip -4 route del unreachable 192.168.1.0/24 metric 4294967294"
    assert answer["hint"].endswith(cure)
    assert host.state() == before
    host.machine.sh(cure)
    assert "+++ /etc/relay-net/up" in host.ask("apply")


def test_two_interfaces_for_one_pattern_are_refused(host: Host) -> None:
    """A pattern with two matches is an error, not a guess."""
    host.machine.ip("link add zt1 type veth peer name far1")
    answer = host.ask("apply")
    assert "2 interfaces match 'zt*': zt0, zt1" in answer["what"]
    assert not host.machine.path("/etc/relay-net/up").exists()


@pytest.mark.parametrize("kind", ["file", "link", "directory", "fifo"])
def test_a_file_of_somebody_else_in_our_place_is_refused(host: Host, kind: str) -> None:
    """Never overwritten, never followed, also with --force; and nothing is changed."""
    place = "/etc/systemd/system/relay-net.service"
    make = {"file": f"echo mine >{place}", "link": f"ln -s /etc/passwd {place}", "directory": f"mkdir {place}"}
    host.machine.sh(make.get(kind, f"mkfifo {place}"))
    answer = host.ask("apply", "force")
    assert place in answer["what"]
    assert f"mv {place} {place}.aside" in answer["hint"]
    assert not host.machine.path("/etc/relay-net/up").exists()
    assert "root:" in host.machine.path("/etc/passwd").read_text()


def test_a_file_that_a_person_has_changed_is_not_overwritten_or_removed(host: Host) -> None:
    """Without --force both apply and undo refuse and name it; with it the undo needs no `down` of ours."""
    before = host.state()
    host.ask("apply")
    host.machine.sh("echo '# a note' >>/etc/relay-net/down; chmod 700 /etc/relay-net/up")
    changed = host.state()
    for verb in ("apply", "undo"):
        answer = host.ask(verb)
        assert answer["what"].endswith(": /etc/relay-net/up, /etc/relay-net/down")
        assert "--force" in answer["hint"]
        assert host.state() == changed
    assert "-# a note" in host.ask("apply", "force")
    assert host.ask("apply") == "nothing"
    host.machine.sh("echo 'exit 1' >/etc/relay-net/down")
    host.ask("undo", "force")
    assert host.state() == before


def test_files_that_are_gone_are_written_again(host: Host) -> None:
    """Removed files are written again by apply, and an undo works without them."""
    before = host.state()
    host.ask("apply")
    after = host.state()
    host.machine.sh("rm /etc/relay-net/up /etc/relay-net/down")
    host.ask("apply")
    assert host.state() == after
    host.machine.sh("rm /etc/relay-net/down")
    host.ask("undo")
    assert host.state() == before


def test_what_is_not_in_the_plan_any_more_goes(host: Host) -> None:
    """A file that an earlier plan had, and the directories made for it, are removed by the next."""
    before = host.state()
    host.ask("apply", "elsewhere")
    assert host.machine.path("/etc/elsewhere/deep/rules.nft").exists()
    host.ask("apply")
    assert not host.machine.path("/etc/elsewhere/deep/rules.nft").exists()
    host.ask("undo")
    assert host.state() == before


def test_somebodys_file_in_our_directory_stays(host: Host) -> None:
    """The directory is removed only when it is empty."""
    host.ask("apply")
    host.machine.write("/etc/relay-net/notes", "mine")
    host.ask("undo")
    assert [path.name for path in host.machine.path("/etc/relay-net").iterdir()] == ["notes"]


@pytest.mark.slow
@pytest.mark.timeout(360)
@pytest.mark.parametrize("way", ["kills-apply", "kills-change", "kills-undo"])
def test_a_run_that_is_killed_at_any_change_is_repaired_by_the_next(host: Host, way: str) -> None:
    """SIGKILL before each write, rename and program: the next run finds its way, and ends where it should."""
    assert host.ask(way, "method2", "elsewhere") > 15


def test_an_up_that_outlives_its_killed_run_keeps_others_away(host: Host) -> None:
    """The script holds the lock until it ends; another run is refused meanwhile with the process's number."""
    before = host.state()
    running = host.machine.start(*host.command("apply", "slow"))
    wait_for(host.machine.path("/run/wait").exists, "up did not get there")
    running.end(signal.SIGKILL)
    answer = host.ask("undo")
    assert answer["what"].startswith("another relayctl net apply is at work here: process ")
    host.machine.sh("echo >/run/wait; rm /run/wait")
    assert host.ask("undo") == "nothing"
    assert host.state() == before


def test_two_at_once_are_one_after_the_other(host: Host) -> None:
    """Both end well, and one of them had nothing to do."""
    runs = [host.machine.start(*host.command("apply"), log=f"/run/{number}.log") for number in range(4)]
    for run in runs:
        assert run.outer.wait(60) == 0
    said = [run.log().splitlines()[-1] for run in runs]
    assert said.count('"nothing"') == 3


@pytest.mark.parametrize("name", ["applied.json", "journal.json"])
@pytest.mark.parametrize("text", ["", "[]", '{"format": 1}', '{"format": 1, "files": {"../../etc/passwd": "x"}}'])
def test_a_record_that_is_none_is_refused(host: Host, name: str, text: str) -> None:
    """An unreadable file is an error that names it."""
    host.machine.write(f"/etc/relay-net/{name}", text)
    answer = host.ask("undo")
    assert f"/etc/relay-net/{name} is not what relayctl wrote" in answer["what"]


def test_a_record_that_others_could_write_is_refused(host: Host) -> None:
    """A record that others can write is refused: it could make root remove any file."""
    host.machine.write("/etc/relay-net/applied.json", "{}", mode=0o666)
    assert "could be written by others than root" in host.ask("undo")["what"]

"""The lab itself: it is what it says, with and without root, and nothing of it outlives its test."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.lab import Lab
from tests.lab.world import CHECKOUT, World, wait_for

pytestmark = pytest.mark.system

ROOTLESS = """
import os
from tests.lab.lab import Lab
assert os.geteuid() != 0
with Lab(plant=False) as lab:
    assert lab.world.rootless
    done = lab.ssh("-J", "relay", "remote", "hostname; id -un")
    assert done.stdout == "remote\\nubuntu\\n", done
    assert not lab.seen()
    print("as it should be")
"""
# Nobody may not enter some directories on the way to the checkout or to Python (/root, say): an empty one is mounted
# over each, and what is needed appears in it again. $1: code, $2: those directories, $3...: what is needed.
AS_NOBODY = """
mount --make-rprivate /
code=$1 closed=$2
shift 2
mount -t tmpfs -o mode=755 tmpfs /mnt
for needed in "$@"; do
    mkdir -p "/mnt$needed"
    mount --rbind "$needed" "/mnt$needed"
done
for directory in $closed; do mount -t tmpfs -o mode=755 tmpfs "$directory"; done
for needed in "$@"; do
    mkdir -p "$needed"
    mount --rbind "/mnt$needed" "$needed"
done
cd /
export PYTHONDONTWRITEBYTECODE=1
exec setpriv --reuid 65534 --regid 65534 --clear-groups "$PYTHON" -c "$code"
"""
KILLED = """
import sys, time
from tests.lab.lab import Lab
lab = Lab(plant=False)
print(lab.world.pid, flush=True)
time.sleep(600)
"""


def test_a_person_gets_through(lab: Lab) -> None:
    """`ssh -J relay remote` ends at the LAN host, which sees the gateway's address; the relay has it on record."""
    done = lab.ssh("-J", "relay", "remote", "hostname; echo ${SSH_CONNECTION%% *}")
    assert (done.returncode, done.stdout) == (0, "remote\n192.168.1.200\n"), done
    opened = lab.row("forward.opened")
    assert (opened["zone"], opened["address"], opened["port"]) == ("office", "192.168.1.201", 22)
    ended = lab.row("forward.closed", forward=opened["forward"])["reason"]
    assert ended in ("client-closed", "target-closed")  # both say goodbye, and either may be the last
    assert lab.seen() == {}


def test_the_client_reaches_the_relay_only(lab: Lab) -> None:
    """The client has no way to the LAN, the overlay or the gateway: only to the relay's public address."""
    for address in ("192.168.1.201", "172.18.0.10", "172.18.0.200", "198.51.100.20", "203.0.113.1"):
        assert lab.client.done("bash", "-c", f"exec 3<>/dev/tcp/{address}/22").returncode == 1, address
    assert lab.client.run("bash", "-c", "exec 3<>/dev/tcp/1.1.1.1/22; head -c 8 <&3") == "SSH-2.0-"


def test_the_decoy_is_real(lab: Lab) -> None:
    """A connection that is not bound leaves by the default route when zt0 is gone: the decoy answers and counts it."""
    plain = "exec 3<>/dev/tcp/192.168.1.201/22; head -n 1 <&3"
    assert "OpenSSH" in lab.relay.run("bash", "-c", plain)
    assert lab.seen() == {}
    lab.remove()
    assert "decoy_provider" in lab.relay.run("bash", "-c", plain)
    assert lab.seen()["relay"] >= 4  # SYN, ACK, FIN and what else a connection takes


def test_every_fault_is_undone(lab: Lab) -> None:
    """After all faults at once the network is what it was before."""

    def state() -> list[str]:
        return [machine.run("ip", "-4", "-br", "address") for machine in (lab.gateway, lab.remote, lab.member)] + [
            lab.relay.run("ip", "route"),
            lab.relay.run("ip", "-4", "-o", "address").replace(" ", ""),
            lab.gateway.run("sysctl", "net.ipv4.ip_forward"),
        ]

    before = state()
    for fault in (lab.own_nic, lab.claim, lab.reroute, lab.unroute, lab.disallow, lab.set_down, lab.remake, lab.remove):
        fault()
        lab.heal()
    for fault in (lab.own_nic, lab.claim, lab.deauthorise, lab.gateway_dead, lab.target_down, lab.no_forwarding):
        fault()
    lab.gateway_without_lan()
    lab.remake()
    assert state() != before
    lab.heal()
    assert [text.split() for text in state()[:3]] == [text.split() for text in before[:3]]
    assert lab.relay.run("ip", "route") == before[3]
    assert lab.ssh("-J", "relay", "remote", "true").returncode == 0


def test_without_root() -> None:
    """Without root the same lab is built in a user namespace, real sshd included; as root the test becomes `nobody`."""
    command = [sys.executable, "-c", ROOTLESS]
    if os.geteuid() == 0:
        needed = [CHECKOUT / "relay", CHECKOUT / "tests", Path(sys.prefix), Path(sys.base_prefix)]
        closed = {next((one for one in reversed(path.parents) if not one.stat().st_mode & 1), None) for path in needed}
        shut = " ".join(str(path) for path in closed if path is not None)
        needed = [path for path in needed if closed.intersection(path.parents)]
        command = ["unshare", "--mount", "sh", "-euc", AS_NOBODY, "sh", ROOTLESS, shut, *map(str, needed)]
    environ = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=90, env=environ)
    assert done.stdout == "as it should be\n", done.stdout + done.stderr


@pytest.mark.parametrize("rootless", [False, True])
def test_nothing_outlives_a_crash(rootless: bool) -> None:
    """When the process that built a lab is killed, every process of it ends and its namespaces with them."""
    code = KILLED.replace("Lab(", f"Lab(rootless={rootless or os.geteuid() != 0}, ")
    process = subprocess.Popen([sys.executable, "-c", code], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    first = int(process.stdout.readline())
    space = os.readlink(f"/proc/{first}/ns/pid")
    assert len(_inside(space)) > 12  # holders, relay, sshd, decoys
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    wait_for(lambda: not _inside(space), f"these outlive it: {_inside(space)}", 5)


def test_a_machine_has_files_of_its_own() -> None:
    """What a machine writes below /etc, /run, /var/lib and /var/log is seen by no other and not outside."""
    with World() as world:
        one, other = world.built("one", "other")
        for path in ("/etc/lab-test", "/run/lab-test", "/var/lib/lab-test", "/var/log/lab-test"):
            one.write(path, "here")
            assert one.run("cat", path) == "here"
            assert other.done("cat", path).returncode != 0
            assert not Path(path).exists()
        assert one.run("hostname") == "one\n"
        assert other.run("hostname") == "other\n"


def _inside(space: str) -> list[int]:
    """The processes in a process namespace."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(entry / "ns/pid") == space:
                found.append(int(entry.name))
        except OSError:  # it ended while we looked, or is not ours
            continue
    return found

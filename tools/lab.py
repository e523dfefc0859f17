"""`make lab`: the whole network in namespaces of this machine, with a shell at the client.

    python tools/lab.py [--plant] [COMMAND]

Builds what tests/lab builds: client, relay, gateway, LAN hosts with real sshd, and a provider with a decoy; `--plant`
adds a second site with the same prefix. COMMAND runs at the client instead of a shell, and its exit status is returned.
Works with and without root. Everything is removed at the end, and the machine's own network is not touched.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.lab.lab import Lab

MAP = """
  client 203.0.113.20        you are here, as alice
    |
  provider                   the internet, the default gateway of all. It has a decoy: its own 192.168.1.201
    |
  relay 1.1.1.1              relayctl serve, port 22
    | zt0 172.18.0.10 ===== member 172.18.0.66, another member of the overlay
    |
  gateway 172.18.0.200       forwards into the LAN 192.168.1.0/24, masquerades
    |-- remote 192.168.1.201, sshd, user ubuntu
    `-- recorder 192.168.1.50
"""
MAP_PLANT = """\
  relay
    | zt1 10.147.20.10
    |
  plant-gateway 10.147.20.200
    `-- plant-remote, also 192.168.1.201: ssh remote.plant, and ssh remote.office for the other one
"""
TYPE = """
  ssh -J relay remote                     a jump
  on relay relayctl net status            any command on another machine; `on relay` alone is a shell there
  on relay relayctl audit tail -f
  lab break remove                        cause a fault; then try again, and see where packets went:
  lab seen
  lab heal
  lab                                     all faults
  exit                                    remove the lab
"""
FAULTS = {
    "remove": "ZeroTier stops: zt0 vanishes with its address and route",
    "set_down": "zt0 is set down",
    "remake": "ZeroTier has just restarted: zt0 is new, its route is not there yet",
    "unroute": "the route vanishes",
    "disallow": "zt0 stays, its address and route vanish",
    "reroute": "the route leads to another member",
    "deauthorise": "the controller removes the relay: no packet arrives, but interface and route look well",
    "own_nic": "the relay gets an interface of its own in 192.168.1.0/24, connected to the decoy",
    "claim": "another member answers for 192.168.1.201",
    "gateway_dead": "the gateway does not answer",
    "gateway_without_lan": "the LAN cable of the gateway is unplugged",
    "no_forwarding": "the gateway does not forward",
    "target_down": "remote is off",
}
SEEN = {
    "relay": "the provider got them from the relay",
    "nic": "they came out of the relay's own interface in the prefix",
    "asked": "the address was asked for by ARP there",
    "gateway": "the provider got them from the gateway",
    "plant": "the provider got them from the plant's gateway",
    "member": "the other member of the overlay got them",
}
RC = """
PS1='alice@client:\\w\\$ '
on() {{
    local pid machine=${{1-}}
    case $machine in
{machines}
    *) echo "on MACHINE [COMMAND...]; machines: {names}" >&2; return 2 ;;
    esac
    shift
    if (($#)); then nsenter -t $pid -m -n -u -- "$@"
    else nsenter -t $pid -m -n -u -- bash --norc -c "cd; PS1='root@$machine:\\w# ' exec bash --norc"; fi
}}
lab() {{ echo "$*" >/run/lab/asked; cat /run/lab/answer; }}
cd
"""


class LabCommands:
    """Runs the `lab ...` commands that are typed at the client, over a pair of named pipes."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._asked, self._answer = (lab.client.path(f"/run/lab/{name}") for name in ("asked", "answer"))
        lab.client.run("mkdir", "/run/lab")
        for path in (self._asked, self._answer):
            os.mkfifo(path)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        try:
            while True:
                words = self._asked.read_text().split()
                try:
                    answer = self.do(words)
                except Exception as error:  # an error is the answer, and the shell continues
                    answer = f"that failed: {error}"
                self._answer.write_text(answer + "\n")
        except OSError:  # the client has ended
            return

    def do(self, words: list[str]) -> str:
        """Run one command; returns its output."""
        match words:
            case ["break", fault] if fault in FAULTS:
                getattr(self._lab, fault)()
                return f"{FAULTS[fault]} (lab heal)"
            case ["heal"]:
                self._lab.heal()
                return "all faults are undone"
            case ["seen"]:
                seen = [f"{count} packets: {SEEN.get(where, where)}" for where, count in self._lab.seen().items()]
                return "\n".join(seen) or "no packet left by another way"
        lines = [f"lab break {name:<20} {what}" for name, what in FAULTS.items()]
        lines += ["lab heal                       undo all faults"]
        lines += ["lab seen                       packets for 192.168.1.0/24 that reached another machine, and which"]
        return "\n".join(lines)


def main() -> int:
    """Build the lab, run a shell or a command at the client, remove the lab."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    began = time.monotonic()
    words = sys.argv[1:]
    plant = words[:1] == ["--plant"]
    with Lab(plant=plant) as lab:
        if plant:
            words = words[1:]
            lab.add_plant()
            lab.configure_client()
        LabCommands(lab)
        machines = {name: machine for name, machine in lab.world.machines.items() if name != "air"}
        lines = "\n".join(f"    {name}) pid={machine.inner} ;;" for name, machine in machines.items())
        lab.client.write("/run/lab/rc", RC.format(machines=lines, names=" ".join(machines)))
        environ = lab.client.environ(TERM=os.environ.get("TERM", "dumb"), USER="alice", LOGNAME="alice")
        environ["PATH"] = f"{Path(sys.executable).parent}:{environ['PATH']}"
        if words:
            script = f". /run/lab/rc; {' '.join(words)}"
            return subprocess.run(lab.client.command("bash", "-c", script), env=environ, check=False).returncode
        print(MAP + (MAP_PLANT if plant else ""))
        print(f"  Built in {time.monotonic() - began:.1f} s. Type, for example:\n{TYPE}", flush=True)
        done = subprocess.run(lab.client.command("bash", "--rcfile", "/run/lab/rc", "-i"), env=environ, check=False)
        print("The lab has been removed.")
        return done.returncode


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)

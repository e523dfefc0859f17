"""The network set up as the documents say: `net apply` on the relay, printed scripts on all other machines."""

from dataclasses import dataclass, field

from tests.lab.lab import Lab
from tests.lab.network import LAN, MTU, OFFICE
from tests.lab.world import HOME, Machine

NETWORK_ID = "8056c2e21c000001"
NETWORK_YAML = f"""\
relay: {{public: 1.1.1.1}}
overlays:
  office:
    network_id: {NETWORK_ID}
    network: 172.18.0.0/24
    relay: 172.18.0.10
    lan_interface: eth0
    lan_address: 192.168.1.200
    route: ROUTE
    members: {{alice-laptop: 172.18.0.11}}
"""
# Stands in for ZeroTier's program, as a veth end does for its interface: a member once joined, with zt0's own address.
ZEROTIER_CLI = """#!/bin/sh
case $1 in
    info) echo '200 info 1122334455 1.14.1 ONLINE' ;;
    join) echo "$2" >>/var/lib/zerotier-one/joined; echo '200 join OK' ;;
    listnetworks)
        echo '200 listnetworks <nwid> <name> <mac> <status> <type> <dev> <ZT assigned ips>'
        while read -r id; do
            address=$(ip -4 -o address show dev zt0 | sed 's/.* inet \\([^ ]*\\).*/\\1/')
            echo "200 listnetworks $id office 8a:11:22:33:44:55 OK PRIVATE zt0 $address"
        done 2>/dev/null </var/lib/zerotier-one/joined
        ;;
esac
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """How it is set up."""

    lab: Lab
    route: str = "managed"  # or relay
    method: int = 1
    firewall: str = "nft"  # of the gateway
    shell: tuple[str, ...] = ("dash",)  # what runs the scripts
    said: dict[str, str] = field(default_factory=dict)

    def controller(self) -> None:
        """What the overlay's controller does: the managed route, where it is one."""
        if self.route == "managed":
            self.lab.relay.ip(f"route replace {LAN} via {OFFICE.gateway} dev zt0 metric 5000")

    def write(self) -> None:
        """network.yaml on the relay, and ZeroTier's program on every member."""
        self.lab.relay.write("/etc/relay/network.yaml", NETWORK_YAML.replace("ROUTE", self.route), 0o640)
        for machine in (self.lab.relay, self.lab.gateway, self.lab.client):
            machine.write("/run/lab-bin/zerotier-cli", ZEROTIER_CLI, 0o755)

    def apply(self, *flags: str) -> str:
        """`relayctl net apply` on the relay."""
        return self.lab.relay.relayctl("net", "apply", "--yes", "--method", str(self.method), *flags)

    def script(self, machine: str, *flags: str) -> str:
        """What `relayctl net plan` prints for one machine."""
        words = ("net", "plan", "--method", str(self.method), "--machine", machine, *flags)
        return self.lab.relay.relayctl_out(*words)

    def run(self, machine: Machine, script: str, *, user: str = "root") -> str:
        """Hand a script over and run it; what it says."""
        machine.write("/run/script.sh", script)
        words = [*self.shell, "/run/script.sh"]
        if user == "ubuntu":
            words = self.lab.as_ubuntu(*words)
        path = "/run/lab-bin:" + machine.environ()["PATH"]
        done = machine.done(*words, PATH=path, HOME=f"{HOME}/{user}", USER=user)
        assert done.returncode == 0, f"{machine.name}: {done.stdout}{done.stderr}\n{script}"
        return done.stdout + done.stderr

    def gateway(self) -> str:
        """The gateway's script, run there."""
        flags = ("--zone", "office", "--firewall", self.firewall)
        return self.run(self.lab.gateway, self.script("gateway", *flags))

    def hosts(self) -> str:
        """The LAN hosts' scripts, run there as the log-in user."""
        lab = self.lab
        return "".join(
            self.run(machine, self.script("lan-host", "--host", machine.name), user="ubuntu")
            for machine in (lab.remote, lab.recorder)
        )

    def client(self) -> str:
        """The client's script, run there: method 1, alice's SSH configuration; method 2, a member's route."""
        who = ("--person", "alice") if self.method == 1 else ("--member", "alice-laptop", "--zone", "office")
        return self.run(self.lab.client, self.script("client", *who))

    def join_client(self) -> None:
        """Method 2: the client is a member of the overlay itself."""
        lab = self.lab
        lab.client.cable("zt0", lab.air, "office-client", MTU)
        lab.air.ip("link set office-client master office")
        lab.client.ip("address add 172.18.0.11/24 dev zt0")

    def state(self) -> dict[str, str]:
        """What the kernel of each machine holds, and our files: to be compared."""
        shown = (
            "nft -s list ruleset; ip -4 route show table all; ip -6 route | sed /^fe80/d; ip rule;"
            "sysctl net.ipv4.ip_forward;"
            f"for file in /etc/relay-net/* {HOME}/*/.ssh/*; do echo $file; cat $file; done 2>/dev/null || :"
        )
        lab = self.lab
        return {
            machine.name: machine.sh(shown)
            for machine in (lab.relay, lab.gateway, lab.remote, lab.recorder, lab.client)
        }

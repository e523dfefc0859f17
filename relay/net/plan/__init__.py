"""What must each machine have, so that the relay reaches its zones and nothing leaks? Plans in, scripts out; no I/O.

A `NetworkPlan` (relay.core.network_plan) goes in; `Machine` values (relay.net.plan.machine) come out, one per machine:

- `prefixes`: which networks may be reached by which interfaces, the one table that every rule is made of
- `relay_host`, `gateway`, `lan_host`, `client`, `moon`: what each machine needs
- `nft`, `iptables`: its rules, in either of the two languages
- `shell`: the scripts, POSIX sh for the shells of a NAS too
- `clashes`: what in a plan, or on this machine, will not go together
- `render`: a machine as one runnable file, or as a page to read
"""

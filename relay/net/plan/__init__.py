"""Network plans: what each machine needs so that the relay reaches its zones and nothing leaks. Pure; no I/O.

A `NetworkPlan` (relay.core.network_plan) goes in; `Machine` values (relay.net.plan.machine) come out, one per machine:

- `prefixes`: which networks may be reached by which interfaces, the table that every rule is generated from
- `relay_host`, `gateway`, `lan_host`, `client`: what each machine needs
- `overlay_join`: how it joins the overlay, and the Moon
- `nft`, `iptables`: its rules, for either of the two programs
- `persistence`: its systemd unit and the script that restores what was removed
- `shell`: the scripts, POSIX sh for the shells of a NAS too
- `conflicts`: conflicts in a plan, or with this machine
- `render`: a machine as one runnable file, or as a page to read

Read `machine` and `relay_host` first. Imports nothing of relay.net but values of `kernel`.
"""

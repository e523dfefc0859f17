"""The kernel's view of the network, by rtnetlink. The only part of relay.net that serving processes may import.

Read in this order: `netlink` (request and parse), `interfaces`, `neighbours` and `route_guard` (values; the guard that
every dial passes), `rp_filter`, `egress_path` (the path of one open forward), `change_events` and `route_monitor` (when
to check again). Imports nothing else of relay.net and starts no program.
"""

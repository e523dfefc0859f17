"""The network around the relay: route guard, probes, diagnosis, plans and their application.

Read `kernel` first: it is all that serving processes may import, it needs the standard library only, and its guard
runs before every dial. Everything else belongs to `relayctl net` and `doctor`, in this order:

- `kernel`: links, routes and neighbours from the kernel, the route guard, change notifications
- `system_commands`: runs ip, nft, ping and systemctl, bounded in time and output
- `zerotier`: the local API of a ZeroTier node, and its answers as values
- `probe`: packets sent to find something out (ping, path MTU, SSH banner)
- `plan`: what each machine needs, as scripts
- `apply`: the relay host's part of the plan, done and undone
- `diagnose`: observations, the findings that follow from them, and the commands that cure them

No folder imports a later one, and an import contract keeps all but `kernel` out of serving processes.
"""

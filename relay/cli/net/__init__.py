"""`relayctl net` and its part of `relayctl doctor`.

`commands` is the group; `status` (with `watch`), `plan`, `apply` and `verify` are its subcommands. `zones` and
`plan_input` read the site; `zone_text` and `zone_findings` put observations and legs into words.
"""

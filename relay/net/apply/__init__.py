"""The relay host's part of the network plan, done and undone by `relayctl net apply`. For root.

Read in this order: `preview` (what would change, as a value that is shown first), `transaction` (all of it, or
nothing), `journal` (what was there before, for a run that was cut off). They rest on `kernel_state`, `managed_routes`
and `managed_files`. May import `kernel`, `plan` and `system_commands`; `diagnose` checks with it that the guard is in
place.
"""

"""Limits on authenticated persons and keys, counted by the supervisor alone, so that they hold over all workers.

Read `session_slots` first (exact counts of connections and forwards), then `scan_detector` (a key that is denied many
different targets), then `session_limits`, which enforces both and answers `relayctl doctor --limits`, `bans` and
`unban`. Limits on unauthenticated clients are in `../admission`.
"""

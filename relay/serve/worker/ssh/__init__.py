"""SSH on top of asyncssh: the protocol's bounds, and nothing about who may log in or reach what.

Read in this order: `handlers` (what is asked of `Authentication` and `Session`), `connection`, `channel_open`,
`channel`. Beside them, one bound or message each: `preauth_limits` and `userauth` (before log-in), `key_exchange`,
`global_requests`, `keepalive`, `delayed_close`, `window_budget` (memory lent to clients). `fastpath/` moves bulk data
past asyncssh. `asyncssh_contract` compares the pinned version.

Of the worker only `forward/` is imported (`pipe`, `read_pacing`, `write_buffer`), and of `serve` `ssh_algorithms`.
"""

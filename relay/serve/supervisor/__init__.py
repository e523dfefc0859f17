"""The supervisor: accepts connections, counts exactly, holds the running configuration, writes the audit log.

It never reads a byte of a client. Read it in this order:

- `process` builds the parts and connects them; `worker_pool` starts the workers and reads their messages.
- `admission/` decides when an accepted connection goes to a worker; `limits/` counts people, keys, forwards and scans.
- `policy/` compiles the candidate files in a child and sends the running configuration to the workers.
- `audit/` is the only writer of the audit log; `open_forwards` gives each opening row its one closing row.
- `control_server` and `control_requests` answer the command line, `session_query` asks all workers for it.
- `zone_status` records broken zones, `monitoring/` serves metrics and health, `counters` are what it shows.
- `listeners`, `sd_notify` and `shutdown` are the side towards systemd.

Nothing here imports relay.serve.worker (an import contract), asyncssh, or of relay.net more than relay.net.kernel.
"""

"""One forward, from the request to the closing row.

Read in this order: `forward` (the path; `open` fits one screen), `dial` (the target's socket), `pipe` (the bytes).
`context` is what a forward needs of its worker. Bounds: `dial_semaphore` (dials at once), `rate_limiter` (bytes of a
person), `read_pacing` (bytes per turn of the loop), `write_buffer` (bytes for a slow target).

Of `worker/` only `audit_client`, `client_messages`, `limit_share` and `statistics` are imported, and of `ssh/` what a
pipe and its memory bounds need.
"""

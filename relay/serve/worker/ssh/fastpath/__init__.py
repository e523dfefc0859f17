"""The fast path for bulk data: AES-GCM packets are sealed and opened in place, many in one system call.

Read `fast_path` first: it is the only seam, a `FastPath` that a connection has or has not. `from_client` and
`to_client` hold the worker's memory for packets, `aes_gcm` the keys and counters shared with asyncssh.

Imported by `connection`, `channel` and `forward/pipe`. Of `ssh/` nothing is imported here.
"""

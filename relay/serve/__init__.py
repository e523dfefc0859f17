"""The serving processes. Two programs that import nothing of each other, and what both share.

- `supervisor/` accepts clients, admits them, writes the audit log, and distributes the running configuration.
- `worker/` speaks SSH, decides about forwards, dials and relays.

Shared: `ipc` (the protocol between them), `authorizer` (the decision; the command line uses it too), `ticker`,
`event_spool`, `memory_limit`, `ssh_algorithms`, `import_stubs`; `control_client` is the command line's end of the
control socket. Of `relay.net` only `relay.net.kernel` may be imported; of `relay.store` a worker imports the host keys
only. docs/design/processes.md has the picture, docs/design/path-of-a-forward.md the files to read first.
"""

"""The audit database, with one writer and many readers, and the key files beside it.

Read in this order:
- `migrations`: the schema; `database_files`: files, modes, the writer's lock
- `rows/`: the layout of an event in a row
- `writer`: durable transactions of rows; its parts are `reserve_file`, `preauth_counters` and `pruning`
- `reader`: read access for every other process; its SQL is in `query`, `aggregates` and `last_access`
- `archive/`: old rows in files of their own
- `signing_key`, `checkpoint_state`: keys of the checkpoints; `host_keys`: SSH host keys; `backup`: backup and restore

May import relay.core, relay.atomic_file and relay.errors. No other package imports sqlite3.
"""

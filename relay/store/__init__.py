"""The audit database: one writer, many readers.

Reading order:
- migrations: the schema; database_files: files, modes, the writer's lock
- rows/: how an event is stored in a row, and read back
- writer: group commits of rows; reserve_file, preauth_counters, pruning: parts of it
- reader: read access for every other process; query, aggregates, last_access: its SQL
- archive/: old rows in files of their own
- signing_key, checkpoint_state: keys of the checkpoints; host_keys: SSH host keys; backup: backup and restore

May import relay.core, relay.atomic_file and relay.errors. No other package imports sqlite3.
"""

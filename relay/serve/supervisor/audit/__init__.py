"""The audit log's only writer, and what depends on its rows.

Read `audit_log` first: other folders record events there and nowhere else. Then `group_commit` (one thread, one
transaction for rows that arrive together), `checkpoint_signer` (signatures over the chain of rows), `anchor_publisher`
(copies of the newest checkpoint outside of the database), `retention` (old rows move to archives and are deleted) and
`stderr_log` (the line of each event for journalctl and fail2ban). SQL is in `relay.store`.
"""

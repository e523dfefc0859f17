"""The audit log's values: what a row says, and how a log is verified.

Read in this order: `event` (events and fields), `hash_chain` (canonical text and hashes), `checkpoint` (signed rows),
`anchor` (a row's hash to keep elsewhere). Then the verifier: `log_verifier` reads every row once and uses
`signing_key_chain` (authenticity) and `completeness`; `verification_result` is its answer.

For display and search: `audit_query`, `row_json`, `log_lines`, `usage_totals`. `archive_format` describes archives.
"""

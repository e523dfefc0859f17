"""Reading the audit log: search, timeline, digest, report, verification.

No module here opens the database: the command line passes a `RowSource` and prints the values that come back.

Reading order:
- row_source: the protocol of a place that holds rows; full_log: archives and database as one such place
- time_expression, local_time: times as typed and as shown
- search, group_by, tail, timeline: the answers of `audit search`, `tail` and `show`
- first_seen, activity_summary, activity_collector: the sums of a window, made in one pass
- digest, unused_items: news and unused items, from these sums
- verify_log, verification_text: a whole log checked, and the wording of the result
- report/: the HTML page

May import relay.core and relay.errors; nothing of serve, store, site or cli.
"""

"""Archives: ranges of rows that have left the database, one file each.

Read `archive_job` first: it has the order of the steps, after each of which a crash is harmless. `archive_writer`
writes and removes the files, `archive_reader` reads and checks them. They import `store.reader`, `store.writer` and
`store.rows`; `store.backup`, the supervisor, `relay.review` and the command line import them.
"""

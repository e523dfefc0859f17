"""Reading the audit log: searching it, following it, telling the story behind an id.

Nothing here knows the database: what reads rows is given (`Rows`), values come back, the command line prints them.
"""

"""The layout of one event in the database.

Read `row_encoding` first: it splits an event into columns and dictionary entries. `dictionary_cache` finds or inserts
the entries, `row_templates` fills in rows that differ only in ids and numbers, `search_columns` and `time_index` serve
searches, and `row_decoding` reads rows back. Nothing of `relay.store` outside this folder is imported here.
"""

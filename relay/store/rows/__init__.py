"""The layout of one event in the database.

row_encoding splits an event into columns and dictionary entries; dictionary_cache finds or adds the entries;
row_templates fills in rows that differ only in ids and numbers; search_columns and time_index serve searches;
row_decoding reads rows back.
"""

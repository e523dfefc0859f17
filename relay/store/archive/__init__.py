"""Archives: ranges of rows that have left the database, one file each.

archive_job says in which order rows move and a crash is survived; archive_writer writes and removes files;
archive_reader reads them.
"""

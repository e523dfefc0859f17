"""The audit database: one writer, many readers, numbered migrations."""

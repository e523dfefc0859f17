"""relay/store/rows."""

"""relay/store/archive."""

"""relay/core/keys."""

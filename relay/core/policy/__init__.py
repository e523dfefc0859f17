"""relay/core/policy."""

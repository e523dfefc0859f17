"""relay/core/audit."""

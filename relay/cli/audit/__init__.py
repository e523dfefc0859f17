"""relay/cli/audit."""

"""relay/cli/running."""

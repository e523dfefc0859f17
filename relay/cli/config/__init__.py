"""relay/cli/config."""

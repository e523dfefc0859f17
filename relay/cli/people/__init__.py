"""relay/cli/people."""

"""relay/cli/net."""

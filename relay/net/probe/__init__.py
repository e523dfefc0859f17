"""relay/net/probe."""

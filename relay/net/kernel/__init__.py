"""relay/net/kernel."""

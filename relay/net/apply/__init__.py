"""relay/net/apply."""

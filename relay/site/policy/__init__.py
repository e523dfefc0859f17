"""relay/site/policy."""

"""relay/net/diagnose."""

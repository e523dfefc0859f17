"""relay/serve/supervisor/policy."""

"""relay/serve/supervisor."""

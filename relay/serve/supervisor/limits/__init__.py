"""relay/serve/supervisor/limits."""

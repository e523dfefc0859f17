"""relay/serve/supervisor/monitoring."""

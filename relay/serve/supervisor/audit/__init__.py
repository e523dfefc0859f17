"""relay/serve/supervisor/audit."""

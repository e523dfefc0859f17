"""relay/serve/supervisor/audit/export."""

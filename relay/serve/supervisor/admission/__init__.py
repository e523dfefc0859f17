"""relay/serve/supervisor/admission."""

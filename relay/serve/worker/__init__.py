"""relay/serve/worker."""

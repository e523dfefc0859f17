"""relay/serve/worker/ssh."""

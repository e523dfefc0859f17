"""relay/serve/worker/forward."""

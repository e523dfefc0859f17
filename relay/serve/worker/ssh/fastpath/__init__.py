"""relay/serve/worker/ssh/fastpath."""

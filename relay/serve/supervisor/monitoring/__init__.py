"""What a monitoring system reads from the supervisor: Prometheus metrics and two health checks.

Read `metrics` first: it builds the pages /metrics, /healthz and /readyz when they are requested. `http_server` serves
them on a loopback port or a Unix socket. Other folders import `metrics` only.
"""

"""The worker process: one client's connection from its descriptor to its end.

Read in this order: `process` (start, link to the supervisor, end), `connections` (accepting), `authentication` (until a
key is proven), `session` (from then on), `forward/` (one forward), `ssh/` (what asyncssh must not do, and the fast
path). Beside them: `audit_client` (rows), `reauthorization` and `zone_watch` (what is open is checked again),
`offline_revocation` (without a supervisor), `list_and_kill` (list and kill), `limit_share`, `preauth_scheduler` and
`statistics`, `client_messages` (texts).

Imports go down: process > connections, list_and_kill > reauthorization, authentication > session > ssh, forward.
Nothing of `serve.supervisor` is imported. `python -m relay.serve.worker` starts it.
"""

"""From accept(2) to the descriptor that a worker receives: admission of unauthenticated connections.

Read `acceptor` first; the others are its parts. `preauth_slots` counts the unauthenticated connections of each source,
`queue` orders the sockets that wait, `source_penalties` keeps the penalty points of sources, `bans` adds the clock and
the audit rows to them, and `early_disconnect` tells a refused client the reason. Other folders import `acceptor` only.
No byte of a client is read here.
"""

"""The local ZeroTier node. For commands only: its token is full control, and no serving process may read it.

`local_api` asks the node over HTTP; `node_view` parses its answers into values. Imports nothing else of
relay.net.
"""
